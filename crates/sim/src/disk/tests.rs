use super::*;

use klamm_env::files::OpenMode;

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// A disk with `/d/f` holding `old`, all durable.
fn disk(seed: u64) -> (Arc<SimulatedDisk>, Arc<dyn Files>) {
    let disk = SimulatedDisk::new(seed);
    let files = disk.files();
    files.create_dir_all(path("/d")).expect("created");
    files.sync_dir(path("/")).expect("synced");
    let file = files.open(path("/d/f"), OpenMode::CreateNew).expect("created");
    file.write_all_at(b"old", 0).expect("written");
    file.sync_data().expect("synced");
    files.sync_dir(path("/d")).expect("synced");
    (disk, files)
}

fn read(files: &Arc<dyn Files>, name: &str) -> Option<Vec<u8>> {
    let file = files.open(path(name), OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().expect("readable") as usize];
    file.read_exact_at(&mut bytes, 0).expect("readable");
    Some(bytes)
}

#[test]
fn what_was_synced_survives() {
    for seed in 0..100 {
        let (disk, _) = disk(seed);
        disk.lose_power();
        assert_eq!(read(&disk.files(), "/d/f").as_deref(), Some(&b"old"[..]));
    }
}

#[test]
fn what_was_not_synced_survives_now_and_then() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..300 {
        let (disk, files) = disk(seed);
        let file = files.open(path("/d/f"), OpenMode::ReadWrite).expect("there");
        file.write_all_at(&[1; 2_000], 0).expect("written");
        disk.lose_power();
        let found = read(&disk.files(), "/d/f").expect("its name is durable");
        match &found[..] {
            b"old" => lost += 1,
            all if all == [1; 2_000] => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(kept > 20 && lost > 20 && torn > 20, "{kept} {lost} {torn}");
}

#[test]
fn names_survive_apart_from_content() {
    let (mut named, mut unnamed) = (0, 0);
    for seed in 0..100 {
        let (disk, files) = disk(seed);
        let file = files.open(path("/d/new"), OpenMode::CreateNew).expect("created");
        file.write_all_at(b"new", 0).expect("written");
        file.sync_data().expect("synced");
        disk.lose_power();
        match read(&disk.files(), "/d/new") {
            None => unnamed += 1,
            Some(bytes) => {
                assert_eq!(bytes, b"new");
                named += 1;
            }
        }
    }
    assert!(named > 10 && unnamed > 10, "{named} {unnamed}");
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let (disk, files) = disk(seed);
        let file = files.open(path("/d/f.tmp"), OpenMode::Create).expect("created");
        file.write_all_at(b"new", 0).expect("written");
        file.sync_data().expect("synced");
        files.rename(path("/d/f.tmp"), path("/d/f")).expect("renamed");
        disk.lose_power();
        seen.insert(read(&disk.files(), "/d/f").expect("one of them"));
    }
    assert_eq!(seen, BTreeSet::from([b"new".to_vec(), b"old".to_vec()]));
}

#[test]
fn a_failed_sync_forgets_what_was_dirty() {
    // Hazard 43.
    let (disk, files) = disk(1);
    let file = files.open(path("/d/f"), OpenMode::ReadWrite).expect("there");
    file.write_all_at(b"NEW", 0).expect("written");
    disk.fail_syncs(1);
    file.sync_data().expect_err("injected");
    file.sync_data().expect("the second one succeeds and proves nothing");
    assert_eq!(read(&files, "/d/f").as_deref(), Some(&b"NEW"[..]), "the cache shows it");
    disk.lose_power();
    assert_eq!(read(&disk.files(), "/d/f").as_deref(), Some(&b"old"[..]));
}

#[test]
fn old_handles_and_locks_die_with_the_process() {
    let (disk, files) = disk(1);
    let lock = files.lock(path("/d/.lock")).expect("a lock").expect("free");
    assert!(files.lock(path("/d/.lock")).expect("a lock").is_none());
    let file = files.open(path("/d/f"), OpenMode::ReadWrite).expect("there");
    disk.kill_process();
    file.write_all_at(b"x", 0).expect_err("dead");
    let files = disk.files();
    let mine = files.lock(path("/d/.lock")).expect("a lock").expect("free again");
    drop(lock);
    assert!(files.lock(path("/d/.lock")).expect("a lock").is_none(), "not the dead one's to free");
    drop(mine);
    assert!(files.lock(path("/d/.lock")).expect("a lock").is_some());
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let (disk, files) = disk(seed);
        let file = files.open(path("/d/f"), OpenMode::ReadWrite).expect("there");
        for n in 0..50_u64 {
            file.write_all_at(&[n as u8; 700], n * 300).expect("written");
        }
        disk.lose_power();
        disk.fingerprint()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (disk, files) = disk(1);
    let file = files.open(path("/d/f"), OpenMode::ReadWrite).expect("there");
    disk.set_room(Some(2));
    let error = file.write_all_at(b"abc", 3).expect_err("full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(read(&files, "/d/f").as_deref(), Some(&b"oldab"[..]));
}
