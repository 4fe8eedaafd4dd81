//! `klamm-sim SEED [--lying-disk]`: one simulation, its trace on standard output; one seed per
//! process.

use std::process::ExitCode;

use klamm_sim::disk::Lie;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (seed, lie) = match arguments.as_slice() {
        [seed] => (seed, None),
        [seed, option] if option == "--lying-disk" => (seed, Some(Lie::FileSyncs)),
        _ => {
            eprintln!("usage: klamm-sim SEED [--lying-disk]");
            return ExitCode::from(2);
        }
    };
    let Ok(seed) = seed.parse() else {
        eprintln!("{seed} is no number");
        return ExitCode::from(2);
    };
    match klamm_sim::durability::run(seed, lie) {
        Ok(outcome) => {
            print!("{}", outcome.trace);
            eprintln!(
                "seed {seed}: {} records acknowledged and found, {} power losses",
                outcome.acknowledged, outcome.power_losses
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("seed {seed} fails: {error}\nagain: cargo run -p klamm-sim -- {seed}");
            ExitCode::FAILURE
        }
    }
}
