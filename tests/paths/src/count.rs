//! Counting: the same requests N and 2 N times, and the difference by N, so that the start, the
//! set-up and the counting itself cancel out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::broker::Broker;
use crate::client::Client;
use crate::paths::Path;

/// What is not one request's comes now and then (memory from the system, a checkpoint): a call
/// that is rarer than this per request is no part of the path.
pub(crate) const CALLS_CHANCE: f64 = 0.1;

/// So is a call that came only this many times in all.
const CALLS_ASIDE_MAX: f64 = 2.0;

/// System calls by name, per request.
pub(crate) type Calls = BTreeMap<String, f64>;

/// Instructions per request that the broker runs outside of the kernel. The profile of the second
/// count is left in `profile`.
pub(crate) fn instructions(
    binary: &FilePath,
    path: &Path,
    profile: Option<&FilePath>,
) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("callgrind");
    let tool = [
        "valgrind".to_owned(),
        "--quiet".to_owned(),
        "--tool=callgrind".to_owned(),
        "--instr-atstart=no".to_owned(),
        format!("--callgrind-out-file={}", out.display()),
    ];
    let broker = Broker::start(&tool, binary, dir.path())?;
    let ask = |what: &str| {
        let pid = broker.pid().as_raw_nonzero();
        let mut vgdb = Command::new("vgdb");
        vgdb.arg(format!("--pid={pid}")).args(what.split(' ')).stdout(Stdio::null());
        let asked = vgdb.stderr(Stdio::piped()).output()?;
        if asked.status.success() {
            return Ok(());
        }
        Err(format!("vgdb {what}: {}", String::from_utf8_lossy(&asked.stderr)).into())
    };
    let mut begun = false;
    run(path, broker.address(), || {
        let what = if begun { "dump" } else { "instrumentation on" };
        begun = true;
        ask(what)
    })?;
    broker.stop()?;
    let dump = |number: u32| dir.path().join(format!("callgrind.{number}"));
    if let Some(profile) = profile {
        std::fs::copy(dump(2), profile)?;
    }
    let (first, second) = (total(&dump(1))?, total(&dump(2))?);
    Ok((second - first) / f64::from(path.rounds * path.requests))
}

/// The system calls of a request.
pub(crate) fn system_calls(binary: &FilePath, path: &Path) -> Outcome<Calls> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("strace");
    let tool = ["strace".to_owned(), "-f".to_owned(), "-o".to_owned(), out.display().to_string()];
    let broker = Broker::start(&tool, binary, dir.path())?;
    let address = broker.address();
    run(path, address, || Client::connect(address)?.ping())?;
    broker.stop()?;
    let mut counts = since_marks(&std::fs::read_to_string(&out)?);
    let second = counts.pop().ok_or("no calls were seen")?;
    let first = counts.pop().ok_or("no connection was seen")?;
    let mut calls = Calls::new();
    for name in first.keys().chain(second.keys()) {
        let count = |of: &BTreeMap<String, u32>| f64::from(of.get(name).copied().unwrap_or(0));
        let more = count(&second) - count(&first);
        let each = more / f64::from(path.rounds * path.requests);
        if each.abs() > CALLS_CHANCE && more.abs() > CALLS_ASIDE_MAX {
            calls.insert(name.clone(), (each * 100.0).round() / 100.0);
        }
    }
    Ok(calls)
}

/// Makes the requests, with a mark before, between and after what is counted.
fn run(path: &Path, address: SocketAddr, mut mark: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    let mut one_more = (path.begin)(address)?;
    let mut rounds = |count: u32| (0..count).try_for_each(|_| one_more());
    rounds(path.warm_up)?;
    mark()?;
    rounds(path.rounds)?;
    mark()?;
    rounds(2 * path.rounds)?;
    mark()
}

/// The sum that a callgrind file states.
fn total(file: &FilePath) -> Outcome<f64> {
    let text = std::fs::read_to_string(file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or("a profile without its sum")?.trim().parse()?)
}

/// Calls by name after each of the last marks but the last: a mark is a connection that is
/// accepted.
fn since_marks(trace: &str) -> Vec<BTreeMap<String, u32>> {
    let mut stretches = vec![BTreeMap::new()];
    for line in trace.lines() {
        let Some((_, line)) = line.split_once(' ') else { continue };
        let line = line.trim_start();
        let is_mark = line.contains("accept4") && returned(line).is_some_and(|value| value >= 0);
        if is_mark {
            stretches.push(BTreeMap::new());
        }
        // A resumed line is the end of a call that was counted; others are signals and ends.
        let name = line.split_once('(').map(|(name, _)| name).unwrap_or_default();
        if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let stretch = stretches.last_mut().expect("at least one");
            *stretch.entry(name.to_owned()).or_default() += 1;
        }
    }
    // What follows the last mark is the stop.
    stretches.pop();
    stretches
}

/// What a call answered.
fn returned(line: &str) -> Option<i64> {
    let (_, value) = line.rsplit_once(" = ")?;
    value.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_between_marks() {
        let trace = "\
7 accept4(4, {sa_family=AF_INET}, [128 => 16], SOCK_CLOEXEC|SOCK_NONBLOCK) = 9
7 accept4(4, NULL, NULL, 0) = -1 EAGAIN (Resource temporarily unavailable)
7 recvfrom(9, \"\\0(...\", 65536, 0, NULL, NULL) = 40
8 futex(0x7f, FUTEX_WAIT_PRIVATE, 1, NULL <unfinished ...>
7 recvfrom(9, 0x55, 65536, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
8 <... futex resumed>) = 0
7 --- SIGTERM {si_signo=SIGTERM} ---
7 accept4(4, {sa_family=AF_INET}, [128 => 16], SOCK_CLOEXEC|SOCK_NONBLOCK) = 10
7 sendto(9, \"x\", 1, 0, NULL, 0) = 1
7 accept4(4, {sa_family=AF_INET}, [128 => 16], SOCK_CLOEXEC|SOCK_NONBLOCK) = 11
7 close(3) = 0
";
        let stretches = since_marks(trace);
        assert_eq!(stretches.len(), 3, "before the first mark, and after each but the last");
        let first = [("accept4", 2), ("futex", 1), ("recvfrom", 2)];
        let first = first.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(stretches[1], BTreeMap::from(first));
        let second = [("accept4", 1), ("sendto", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(stretches[2], BTreeMap::from(second));
    }
}
