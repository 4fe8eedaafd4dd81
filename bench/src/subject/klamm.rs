//! Klamm: the release binary.

use std::path::Path;
use std::process::Command;

use super::{Setting, placed};
use crate::bed::Bed;

/// `klamm serve` with its defaults, but for the flush mode and what the scenario sets.
pub(super) fn command(
    bed: &Bed,
    dir: &Path,
    address: &str,
    flush: &str,
    settings: &[Setting],
) -> Command {
    let mut command = placed(bed, &bed.tools.klamm);
    command.args(["serve", "--listen", address, "--data-dir"]).arg(dir.join("data"));
    command.args(["--set", &format!("flush={flush}")]);
    for (_, key, value) in settings.iter().filter(|setting| setting.0 != "kafka") {
        command.args(["--set", &format!("{key}={value}")]);
    }
    command.env("KLAMM_LOG", "warn");
    command
}
