//! What a session found, part by part; kept on disk, so that it goes on where it was broken off.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::machine::Machine;
use crate::measure::{Disturbance, Figures, median};
use crate::subject::Kind;

/// All results, of one machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) parts: Vec<PartResult>,
}

/// One part's results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PartResult {
    pub(crate) scenario: String,
    pub(crate) part: String,
    /// UTC, when it was done.
    pub(crate) date: String,
    /// Of the checkout, with `+` if anything was changed in it.
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) kafka_version: Option<String>,
    /// 1.0 is the real size.
    pub(crate) scale: f64,
    /// Payload bytes of one run (or that lie there to be read); 0 if that is not the measure.
    pub(crate) run_bytes: u64,
    /// Client and broker each on a core of its own.
    pub(crate) pinned: bool,
    /// Rounds that were too much disturbed to count, and were repeated.
    pub(crate) dropped: usize,
    /// Whether rounds count although they were disturbed, since no others could be had.
    pub(crate) disturbed: bool,
    /// Subjects that failed, and how.
    pub(crate) failures: Vec<(Kind, String)>,
    pub(crate) samples: Vec<Sample>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) kind: Kind,
    pub(crate) figures: Figures,
    pub(crate) disturbance: Disturbance,
}

/// A figure over all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Session {
    /// What `file` holds; empty if it is not there.
    pub(crate) fn load(file: &Path) -> Result<Self> {
        match fs::read(file) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", file.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", file.display())),
        }
    }

    /// Writes all of it, whole or not at all.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| e.to_string())?;
        let draft = file.with_extension("draft");
        let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, file));
        written.map_err(|e| format!("{}: {e}", file.display()))
    }

    pub(crate) fn part(&self, scenario: &str, part: &str) -> Option<&PartResult> {
        self.parts.iter().find(|found| found.scenario == scenario && found.part == part)
    }

    /// Adds a part's results, in place of older ones.
    pub(crate) fn put(&mut self, result: PartResult) {
        self.parts.retain(|old| (&old.scenario, &old.part) != (&result.scenario, &result.part));
        self.parts.push(result);
    }
}

impl PartResult {
    /// A figure of one subject over its runs.
    pub(crate) fn spread(&self, kind: Kind, figure: &str) -> Option<Spread> {
        let runs = self.samples.iter().filter(|sample| sample.kind == kind);
        let values: Vec<f64> = runs.filter_map(|s| s.figures.get(figure).copied()).collect();
        Some(Spread {
            median: median(&values)?,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}
