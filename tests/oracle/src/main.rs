//! The differential oracle: one script of requests goes to Kafka and to Klamm; every field of the
//! answers is compared, apart from what `may-differ.txt` allows with a reason.
//!
//! `oracle KAFKA KLAMM [--slice] [--only TEXT] [--list]`, each address as `host:port`. Both brokers
//! are fresh: one node, id 0, `group.initial.rebalance.delay.ms=0`. `run` starts them.
//!
//! - [`cases`]: the script, a function for each behaviour, run at every version that Klamm serves.
//! - [`case`]: what such a function has in hand: connections, names, the transcript.
//! - [`tree`]: an answer as paths and values, read from its Debug form.
//! - [`compare`]: two transcripts and the list of what may differ.

mod batches;
mod case;
mod cases;
mod compare;
mod connection;
mod tree;

use std::process::ExitCode;

use compare::{Difference, MayDiffer};

/// Differences of one case that are printed.
const SHOWN_MAX: usize = 12;

const MAY_DIFFER: &str = include_str!("../may-differ.txt");

struct Arguments {
    kafka: String,
    klamm: String,
    slice: bool,
    only: Option<String>,
    list: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut addresses = Vec::new();
    let (mut slice, mut only, mut list) = (false, None, false);
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--slice" => slice = true,
            "--list" => list = true,
            "--only" => only = Some(rest.next().ok_or("--only needs a text")?),
            _ if argument.starts_with('-') => return Err(format!("unknown option {argument}")),
            _ => addresses.push(argument),
        }
    }
    let [kafka, klamm] = <[String; 2]>::try_from(addresses)
        .map_err(|_| "usage: oracle KAFKA KLAMM [--slice] [--only TEXT] [--list]".to_owned())?;
    Ok(Arguments { kafka, klamm, slice, only, list })
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(problem) => {
            eprintln!("oracle: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Whether the two brokers agree.
fn run() -> Result<bool, String> {
    let arguments = arguments()?;
    let mut rules = MayDiffer::parse(MAY_DIFFER)?;
    let (mut calls, mut runs) = (0, 0);
    let mut differences: Vec<Difference> = Vec::new();
    for planned in cases::plan(arguments.slice, arguments.only.as_deref()) {
        if arguments.list {
            println!("{}", planned.name);
            continue;
        }
        let kafka = planned.run(&arguments.kafka);
        let klamm = planned.run(&arguments.klamm);
        runs += 1;
        calls += kafka.len();
        let found = compare::compare(&planned.name, &kafka, &klamm, &mut rules);
        for difference in found.iter().take(SHOWN_MAX) {
            println!("{difference}");
        }
        if found.len() > SHOWN_MAX {
            println!("{}: {} more", planned.name, found.len() - SHOWN_MAX);
        }
        differences.extend(found);
    }
    if arguments.list {
        return Ok(true);
    }
    if !arguments.slice && arguments.only.is_none() {
        for rule in rules.unused() {
            println!("may-differ.txt: nothing differs any more: {rule}");
        }
    }
    println!("{runs} cases, {calls} answers compared, {} differences", differences.len());
    Ok(differences.is_empty())
}
