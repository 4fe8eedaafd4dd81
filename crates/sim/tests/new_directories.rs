//! A data directory several levels deep that did not exist before.

use std::path::Path;

use klamm_log::LogDir;
use klamm_sim::disk::SimulatedDisk;

#[test]
fn every_name_above_a_new_directory_survives_the_power() {
    let path = Path::new("/srv/streams/klamm/data");
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        LogDir::open(disk.files(), path).expect("made");
        disk.lose_power();
        let found = disk.files().metadata(path).expect("a readable disk");
        assert!(found.is_some_and(|found| found.is_dir), "seed {seed}: the directory is gone");
    }
}
