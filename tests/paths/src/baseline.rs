//! The committed counts, and what differs from them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::count::{CALLS_CHANCE, Calls};

/// The file.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Baseline {
    /// How far a count may be from the one here, in percent of it.
    pub(crate) tolerance_percent: f64,
    /// By the path's name.
    pub(crate) paths: BTreeMap<String, Expected>,
}

/// What is expected of a path.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Expected {
    #[serde(flatten)]
    pub(crate) counts: Counts,
    /// For this path's instructions, where the baseline's does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tolerance_percent: Option<f64>,
    /// Calls that depend on how much of a request or an answer the socket takes at once, or on what
    /// the clock lets come in between: they are told, not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) by_pace: Vec<String>,
}

/// What a request costs.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Counts {
    pub(crate) instructions: u64,
    pub(crate) system_calls: Calls,
}

/// How a count stands to the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Within,
    /// Cheaper than the baseline says: to be written down, or the gain may be lost unseen.
    Cheaper,
    Dearer,
}

impl Baseline {
    pub(crate) fn read(file: &Path) -> Outcome<Baseline> {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?)
    }

    pub(crate) fn write(&self, file: &Path) -> Outcome<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        #[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
        let mut file = std::fs::File::create(file)?;
        Ok(file.write_all(&text)?)
    }

    /// What is told of one path, line by line, and the worst of it.
    pub(crate) fn judge(&self, name: &str, counted: &Counts) -> (Verdict, Vec<String>) {
        let Some(expected) = self.paths.get(name) else {
            return (Verdict::Dearer, vec!["not in the baseline".to_owned()]);
        };
        let share = self.tolerance_percent / 100.0;
        let own_share = expected.tolerance_percent.map_or(share, |percent| percent / 100.0);
        let mut worst = Verdict::Within;
        let mut told = Vec::new();
        let mut look = |what: &str, was: f64, is: f64, may_differ: f64| {
            if (is - was).abs() <= may_differ {
                return;
            }
            let (verdict, word) = match is > was {
                true => (Verdict::Dearer, "more"),
                false => (Verdict::Cheaper, "fewer"),
            };
            worst = worst.max(verdict);
            let percent = (is - was).abs() / was * 100.0;
            let by = if was > 0.0 { format!(" by {percent:.1} %") } else { String::new() };
            told.push(format!("{word} {what}{by}: {is} instead of {was}"));
        };
        let (was, is) = (expected.counts.instructions as f64, counted.instructions as f64);
        look("instructions", was, is, was * own_share);
        let known = expected.counts.system_calls.keys();
        let mut names: Vec<_> = known.chain(counted.system_calls.keys()).collect();
        names.retain(|call| !expected.by_pace.contains(call));
        names.sort();
        names.dedup();
        for call in names {
            let of = |counts: &Counts| counts.system_calls.get(call).copied().unwrap_or(0.0);
            let (was, is) = (of(&expected.counts), of(counted));
            look(call, was, is, (was * share).max(CALLS_CHANCE));
        }
        (worst, told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(instructions: u64, calls: &[(&str, f64)]) -> Counts {
        let system_calls = calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Counts { instructions, system_calls }
    }

    fn judged(expected: Expected, counted: &Counts) -> Verdict {
        let paths = BTreeMap::from([("p".to_owned(), expected)]);
        Baseline { tolerance_percent: 5.0, paths }.judge("p", counted).0
    }

    fn verdict(counted: &Counts) -> Verdict {
        let counts = counts(10_000, &[("pwrite64", 1.0), ("epoll_wait", 20.0)]);
        judged(Expected { counts, ..Expected::default() }, counted)
    }

    #[test]
    fn instructions_are_held_to_the_tolerance() {
        let calls = [("pwrite64", 1.0), ("epoll_wait", 20.0)];
        assert_eq!(verdict(&counts(10_500, &calls)), Verdict::Within);
        assert_eq!(verdict(&counts(10_501, &calls)), Verdict::Dearer);
        assert_eq!(verdict(&counts(9_500, &calls)), Verdict::Within);
        assert_eq!(verdict(&counts(9_499, &calls)), Verdict::Cheaper);
    }

    #[test]
    fn a_call_more_or_fewer_is_told() {
        let with = |calls| verdict(&counts(10_000, calls));
        assert_eq!(with(&[("pwrite64", 1.09), ("epoll_wait", 21.0)]), Verdict::Within);
        assert_eq!(with(&[("pwrite64", 1.11), ("epoll_wait", 20.0)]), Verdict::Dearer);
        assert_eq!(with(&[("epoll_wait", 20.0)]), Verdict::Cheaper);
        let added = [("pwrite64", 1.0), ("epoll_wait", 20.0), ("statx", 0.11)];
        assert_eq!(with(&added), Verdict::Dearer);
        // One call less does not make up for one more.
        assert_eq!(with(&[("pwrite64", 2.0), ("epoll_wait", 10.0)]), Verdict::Dearer);
    }

    #[test]
    fn a_path_may_have_a_tolerance_of_its_own_and_calls_that_go_by_pace() {
        let with = |counted: &Counts| {
            let expected = Expected {
                counts: counts(10_000, &[("pread64", 1.0), ("sendfile", 3.0)]),
                tolerance_percent: Some(30.0),
                by_pace: vec!["sendfile".to_owned(), "epoll_wait".to_owned()],
            };
            judged(expected, counted)
        };
        let any_pace = [("pread64", 1.0), ("epoll_wait", 9.0)];
        assert_eq!(with(&counts(13_000, &any_pace)), Verdict::Within);
        assert_eq!(with(&counts(13_001, &any_pace)), Verdict::Dearer);
        assert_eq!(with(&counts(10_000, &[("pread64", 2.0)])), Verdict::Dearer);
    }

    #[test]
    fn a_path_that_the_baseline_does_not_know_is_no_pass() {
        assert_eq!(Baseline::default().judge("new", &counts(1, &[])).0, Verdict::Dearer);
    }
}
