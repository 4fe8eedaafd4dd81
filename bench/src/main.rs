//! The benchmark: Klamm beside the floor of the machine and beside Apache Kafka, in turns, verified.
//!
//! `cargo xtask bench` runs it; `bench/README.md` says what is measured and how to read it.
#![expect(
    clippy::disallowed_methods,
    reason = "measures real programs on a real machine; nothing here runs in the simulator"
)]

mod arguments;
mod bed;
mod leftovers;
mod load;
mod machine;
mod measure;
mod report;
mod runner;
mod scenario;
mod session;
mod subject;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use arguments::Arguments;
use bed::Bed;
use leftovers::Leftovers;
use runner::Plan;
use session::Session;
use tools::Tools;

/// What goes wrong is told, not handled: a sentence for whoever reads it.
type Result<T, E = String> = std::result::Result<T, E>;

/// Most that Klamm may cost in the smoke run, as a multiple of the floor's CPU per GB. Loose: it runs
/// on busy machines, with runs of a fraction of a second.
const SMOKE_CEILING: f64 = 6.0;
/// Sizes of the smoke run, as a share of the real ones.
const SMOKE_SCALE: f64 = 0.15;
/// What the smoke run runs.
const SMOKE_SCENARIOS: [&str; 2] = ["1", "11"];
/// Bytes that Kafka gets before anything counts.
const WARM_BYTES: u64 = 5_000_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "floor" => subject::floor::run(rest),
        _ => Arguments::parse(&arguments).and_then(|arguments| bench(&arguments)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no checkout")?.to_owned();
    let scenarios = scenario::all();
    if arguments.list {
        for scenario in &scenarios {
            println!("{:<4} {}", scenario.number, scenario.title);
        }
        return Ok(());
    }
    let chosen = arguments.chosen(&scenarios, &SMOKE_SCENARIOS)?;
    let scratch = root.join("scratch/bench");
    fs::create_dir_all(&scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
    let file = scratch.join(if arguments.smoke { "smoke.json" } else { "session.json" });
    let mut session = Session::load(&file)?;
    if !arguments.report_only {
        let _alone = lock(&scratch)?;
        raise_descriptor_limit()?;
        end_with_children();
        let mut bed = bed(arguments, &root, &scratch)?;
        let plan = Plan {
            rounds: arguments.rounds,
            disk_bytes: arguments.disk_bytes,
            prefill: arguments.prefill && !arguments.smoke,
            quiet_only: arguments.quiet_only && !arguments.smoke,
        };
        for scenario in chosen {
            for part in &scenario.parts {
                if !arguments.wants_part(part.name) {
                    continue;
                }
                let done = session.part(scenario.number, part.name);
                let same = |d: &session::PartResult| d.scale == bed.scale && d.pinned == bed.pinned;
                if arguments.resume && done.is_some_and(same) {
                    println!("{}, {}: done before", scenario.number, part.name);
                    continue;
                }
                println!("{} {}: {}   [{}]", scenario.number, scenario.title, part.name, now_utc());
                session.put(runner::run(&mut bed, plan, &scratch, scenario, part)?);
                session.save(&file)?;
            }
        }
        bed.leftovers.clear()?;
    }
    let markdown = report::markdown(&scenarios, &session);
    println!("\n{markdown}");
    if arguments.save {
        report::publish(&root, &scenarios, &session)?;
    }
    if arguments.smoke { smoke_verdict(&session) } else { Ok(()) }
}

fn bed(arguments: &Arguments, root: &Path, scratch: &Path) -> Result<Bed> {
    let mut tools = Tools::find(root, scratch, !arguments.smoke)?;
    if arguments.smoke {
        tools.nisshi = None;
    }
    for missing in &tools.left_out {
        println!("left out: {missing}");
    }
    let dir = data_dir(scratch);
    let scale = if arguments.smoke { SMOKE_SCALE } else { arguments.scale };
    Ok(Bed {
        root: root.to_owned(),
        leftovers: Leftovers::new(dir.with_file_name("leftovers"))?,
        dir,
        tools,
        scale,
        run_bytes_max: 0,
        pinned: arguments.pinned,
        warm_bytes: if arguments.smoke { 0 } else { (WARM_BYTES as f64 * scale) as u64 },
        soak_s: arguments.soak_s,
    })
}

/// Lets nothing live on that this process started when it is told to end. Ctrl-C reaches all anyway.
fn end_with_children() {
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::signal::unix::{SignalKind, signal};
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            if let Ok(mut asked) = signal(SignalKind::terminate()) {
                asked.recv().await;
            }
        });
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                if let Some(child) = Pid::from_raw(child) {
                    // One that has just ended needs no signal.
                    let _ = kill_process(child, Signal::KILL);
                }
            }
        }
        std::process::exit(1);
    });
}

/// Two sessions would measure each other, and delete each other's data.
fn lock(scratch: &Path) -> Result<fs::File> {
    let file = fs::File::create(scratch.join("lock")).map_err(|e| e.to_string())?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| "another session runs in this checkout")?;
    Ok(file)
}

fn data_dir(scratch: &Path) -> PathBuf {
    scratch.join("data")
}

/// Ten thousand connections take as many descriptors.
fn raise_descriptor_limit() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|e| format!("limit of descriptors: {e}"))
}

/// Holds the smoke run against its ceiling, and sees that everything ran.
fn smoke_verdict(session: &Session) -> Result<()> {
    use subject::Kind::{Floor, Klamm, KlammAcked};
    for part in &session.parts {
        // Whether Kafka follows is not what a change here is judged by.
        let ours = |kind| matches!(kind, Floor | Klamm | KlammAcked);
        if let Some((kind, error)) = part.failures.iter().find(|(kind, _)| ours(*kind)) {
            return Err(format!("{} {}: {}: {error}", part.scenario, part.part, kind.name()));
        }
        let cpu = |kind| part.spread(kind, "cpu_s_per_gb").map(|spread| spread.median);
        let (Some(floor), Some(klamm)) = (cpu(Floor), cpu(Klamm)) else {
            return Err(format!("{} {}: not measured", part.scenario, part.part));
        };
        let times = klamm / floor.max(f64::MIN_POSITIVE);
        println!("{} {}: {times:.2} times the floor", part.scenario, part.part);
        if times > SMOKE_CEILING {
            return Err(format!("more than {SMOKE_CEILING} times the floor"));
        }
    }
    Ok(())
}

/// The checkout's commit, with `+` if something in it is changed.
fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    };
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty();
    format!("{}{}", git(&["rev-parse", "--short=12", "HEAD"]), if changed { "+" } else { "" })
}

/// Date and time to the minute.
fn now_utc() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}
