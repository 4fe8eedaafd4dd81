//! Runs a part: brokers started and warmed, then everyone in turns, round by round.

use std::fs;
use std::path::Path;

use crate::bed::Bed;
use crate::machine::{Machine, free_disk, prefill};
use crate::measure::Watch;
use crate::scenario::{Part, Scenario};
use crate::session::{PartResult, Sample};
use crate::subject::{Kind, Server};
use crate::{Result, commit, now_utc};

/// Rounds that may be repeated, as a multiple of those that are asked for.
const REPEATS_MAX: usize = 2;

/// How much is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Most bytes on disk at once.
    pub(crate) disk_bytes: u64,
    /// Whether the page cache is filled first.
    pub(crate) prefill: bool,
    /// Whether rounds that were disturbed are repeated.
    pub(crate) quiet_only: bool,
}

/// Runs a part and puts its data away. A subject that fails is left out of the rest, by name.
pub(crate) fn run(
    bed: &mut Bed,
    plan: Plan,
    scratch: &Path,
    scenario: &Scenario,
    part: &Part,
) -> Result<PartResult> {
    bed.leftovers.put(&bed.dir)?;
    fs::create_dir_all(&bed.dir).map_err(|e| format!("{}: {e}", bed.dir.display()))?;
    let result = rounds(bed, plan, scratch, scenario, part);
    let put_away = bed.leftovers.put(&bed.dir);
    let result = result?;
    put_away?;
    Ok(result)
}

fn rounds(
    bed: &mut Bed,
    plan: Plan,
    scratch: &Path,
    scenario: &Scenario,
    part: &Part,
) -> Result<PartResult> {
    let kinds: Vec<Kind> = part.kinds.iter().copied().filter(|kind| is_here(bed, *kind)).collect();
    bed.run_bytes_max = run_bytes_max(bed, plan, part, &kinds)?;
    if plan.prefill {
        println!("  page cache: filling");
        prefill(scratch)?;
    }
    let mut result = PartResult {
        scenario: scenario.number.to_owned(),
        part: part.name.to_owned(),
        date: String::new(),
        commit: commit(&bed.root),
        machine: Machine::describe(&bed.dir),
        kafka_version: bed.tools.kafka_version(),
        scale: bed.scale,
        run_bytes: bed.bytes(part.load.bytes_per_run()),
        pinned: bed.pinned,
        dropped: 0,
        disturbed: false,
        failures: Vec::new(),
        samples: Vec::new(),
    };
    let mut servers = Vec::new();
    for kind in kinds.iter().copied().filter(|kind| *kind != Kind::Floor) {
        println!("  {}: starting, warming", kind.name());
        let prepared = Server::start(kind, bed, part.settings).and_then(|mut server| {
            part.load.prepare(bed, &mut server)?;
            Ok(server)
        });
        match prepared {
            Ok(server) => servers.push(server),
            Err(error) => fail(bed, &mut result, kind, &error),
        }
    }
    let mut round = 0;
    let mut drawn = 0;
    while round < plan.rounds {
        let order = order(&kinds, part.twice, drawn);
        drawn += 1;
        let samples = one_round(bed, part, &order, round, &mut servers, &mut result);
        let quiet = samples.iter().all(|sample| sample.disturbance.is_quiet());
        let may_repeat = result.dropped < plan.rounds * REPEATS_MAX;
        if plan.quiet_only && !quiet && may_repeat {
            println!("  round {} was disturbed and is repeated", round + 1);
            result.dropped += 1;
            continue;
        }
        result.disturbed |= !quiet;
        result.samples.extend(samples);
        round += 1;
    }
    drop(servers);
    result.date = now_utc();
    Ok(result)
}

fn one_round(
    bed: &Bed,
    part: &Part,
    order: &[Kind],
    round: usize,
    servers: &mut Vec<Server>,
    result: &mut PartResult,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    for kind in order.iter().copied() {
        let server = servers.iter().position(|server| server.kind == kind);
        if server.is_none() && kind != Kind::Floor {
            // It has failed before.
            continue;
        }
        match one_run(bed, part, kind, round, server, servers) {
            Ok(Some(sample)) => {
                print_sample(part, &sample);
                samples.push(sample);
            }
            Ok(None) => {}
            Err(error) => {
                fail(bed, result, kind, &error);
                servers.retain(|server| server.kind != kind);
            }
        }
    }
    samples
}

fn one_run(
    bed: &Bed,
    part: &Part,
    kind: Kind,
    round: usize,
    server: Option<usize>,
    servers: &mut [Server],
) -> Result<Option<Sample>> {
    bed.settle()?;
    let living: Vec<u32> = servers.iter().map(Server::pid).collect();
    let watch = Watch::start(&living)?;
    let figures = match server {
        Some(at) => Some(part.load.run(bed, &mut servers[at])?),
        None => part.load.floor(bed)?,
    };
    // A broker that was started anew has another process; what the old one used is in our account.
    let living: Vec<u32> = servers.iter().map(Server::pid).collect();
    let disturbance = watch.disturbance(&living)?;
    Ok(figures.map(|figures| Sample { round, kind, figures, disturbance }))
}

fn is_here(bed: &Bed, kind: Kind) -> bool {
    match kind {
        Kind::Kafka => bed.tools.kafka.is_some(),
        Kind::Nisshi => bed.tools.nisshi.is_some(),
        _ => true,
    }
}

fn fail(bed: &Bed, result: &mut PartResult, kind: Kind, error: &str) {
    // Where the checkout lies is nobody's business in a published result.
    let error = error.replace(&*bed.root.to_string_lossy(), ".");
    println!("  {}: left out from here on: {error}", kind.name());
    result.failures.push((kind, error));
}

/// Who runs when: floor, Klamm, Kafka, Klamm, Kafka, floor, with the others once before the last
/// one, and every round begins with another.
fn order(kinds: &[Kind], twice: bool, round: usize) -> Vec<Kind> {
    let klamm = [Kind::Klamm, Kind::KlammAcked].into_iter().find(|kind| kinds.contains(kind));
    let paired = [Some(Kind::Floor), klamm, Some(Kind::Kafka)];
    let of = |wanted: &[Option<Kind>]| -> Vec<Kind> {
        wanted.iter().flatten().copied().filter(|kind| kinds.contains(kind)).collect()
    };
    let others: Vec<Kind> =
        kinds.iter().copied().filter(|kind| !paired.contains(&Some(*kind))).collect();
    let mut order = of(&paired);
    if twice {
        order.extend(of(&paired[1..]));
        order.extend(others);
        order.extend(of(&paired[..1]));
    } else {
        order.extend(others);
    }
    if !order.is_empty() {
        let first = round % order.len();
        order.rotate_left(first);
    }
    order
}

/// What one run may write, so that warm-up and all rounds, repeated ones included, fit.
fn run_bytes_max(bed: &Bed, plan: Plan, part: &Part, kinds: &[Kind]) -> Result<u64> {
    if part.load.bytes_per_run() == 0 {
        return Ok(u64::MAX);
    }
    let free = free_disk(&bed.dir)?;
    let budget = plan.disk_bytes.min(free / 10 * 9);
    let brokers = kinds.iter().filter(|kind| !matches!(kind, Kind::Floor | Kind::Nisshi)).count();
    let warm = match part.load.warms() {
        true => bed.warm_bytes + bed.warm_bytes / 5 * (brokers.saturating_sub(1) as u64),
        false => 0,
    };
    let writes = if part.load.writes_in_every_run() {
        let runs = order(kinds, part.twice, 0).iter().filter(|k| **k != Kind::Nisshi).count();
        // Half as many rounds again as are asked for: more repeats than that are rare, and the
        // disk has the tenth that was left.
        (runs * plan.rounds * 3 / 2).max(1)
    } else {
        brokers + 1
    };
    let each = budget.saturating_sub(warm) / writes as u64;
    if each < 1_000_000 {
        return Err(format!("{} bytes of disk are not enough", plan.disk_bytes.min(free)));
    }
    Ok(each)
}

fn print_sample(part: &Part, sample: &Sample) {
    let figures: Vec<String> = part
        .shown
        .iter()
        .filter_map(|(figure, name)| {
            Some(format!("{name} {}", crate::report::number(*sample.figures.get(*figure)?)))
        })
        .collect();
    println!(
        "  round {} {:<24} {}   (steal {:.2}, others {:.2})",
        sample.round + 1,
        sample.kind.name(),
        figures.join(", "),
        sample.disturbance.steal,
        sample.disturbance.others
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_is_floor_klamm_kafka_klamm_kafka_floor() {
        use Kind::{Floor, Kafka, Klamm, KlammAcked};
        let kinds = [Floor, Klamm, KlammAcked, Kafka];
        assert_eq!(order(&kinds, true, 0), [Floor, Klamm, Kafka, Klamm, Kafka, KlammAcked, Floor]);
        assert_eq!(order(&kinds, true, 1)[0], Klamm);
        assert_eq!(order(&kinds, false, 0), [Floor, Klamm, Kafka, KlammAcked]);
        assert_eq!(order(&[Klamm], true, 5), [Klamm, Klamm]);
        assert_eq!(order(&[KlammAcked, Kafka], true, 0), [KlammAcked, Kafka, KlammAcked, Kafka]);
    }
}
