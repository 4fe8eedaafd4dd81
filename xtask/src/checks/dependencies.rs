//! Which crate may use which.

use super::files::File;

/// A crate's folder, and the workspace crates that it may be built from.
///
/// Tests may use more (development dependencies are not held to it), but nobody sees `sim`.
const ARROWS: &[(&str, &[&str])] = &[
    ("env", &[]),
    ("protocol", &[]),
    ("history", &[]),
    ("model", &[]),
    ("log", &["env", "protocol"]),
    ("coordinator", &["protocol"]),
    ("cluster", &["env", "protocol"]),
    ("client", &["env", "protocol"]),
    ("broker", &["env", "protocol", "log", "coordinator", "cluster", "client"]),
    ("klamm", &["env", "protocol", "log", "coordinator", "cluster", "client", "broker"]),
    ("sim", &["env", "protocol", "history", "log", "coordinator", "cluster", "client", "broker"]),
];

pub(crate) fn arrows(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        let Some(name) = crate_of_manifest(&file.path) else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| *crate_name == name) else {
            faults.push(format!("{}: a crate that the arrows do not know", file.path));
            continue;
        };
        for (used, for_tests) in workspace_dependencies(&file.text) {
            if used == "sim" || !for_tests && !allowed.contains(&used) {
                faults.push(format!("{}: {name} must not use {used}", file.path));
            }
        }
    }
    faults
}

fn crate_of_manifest(path: &str) -> Option<&str> {
    let name = path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
    (!name.contains('/')).then_some(name)
}

/// The workspace crates that a manifest names, and whether only for tests.
fn workspace_dependencies(manifest: &str) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
        }
        if !section.contains("dependencies") {
            continue;
        }
        let entry = line.strip_prefix('[').and_then(|_| section.rsplit('.').next());
        if let Some(name) = entry.unwrap_or(line).strip_prefix("klamm-") {
            let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
            found.push((&name[..end], section.contains("dev-dependencies")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, manifest: &str) -> Vec<String> {
        arrows(&[File::new(path, manifest)])
    }

    #[test]
    fn an_arrow_upwards_is_a_fault() {
        let manifest = "[dependencies]\nklamm-protocol.workspace = true\nklamm-env = \"0\"\n";
        assert!(faults("crates/log/Cargo.toml", manifest).is_empty());
        assert_eq!(
            faults("crates/coordinator/Cargo.toml", manifest),
            ["crates/coordinator/Cargo.toml: coordinator must not use env"]
        );
        let table = "[target.'cfg(unix)'.dependencies.klamm-broker]\nworkspace = true\n";
        assert_eq!(faults("crates/log/Cargo.toml", table).len(), 1);
    }

    #[test]
    fn tests_may_use_more_but_not_the_simulator() {
        let manifest = "[dev-dependencies]\nklamm-broker.workspace = true\n";
        assert!(faults("crates/log/Cargo.toml", manifest).is_empty());
        let manifest = "[dev-dependencies]\nklamm-sim.workspace = true\n";
        assert_eq!(faults("crates/log/Cargo.toml", manifest).len(), 1);
    }

    #[test]
    fn an_unknown_crate_is_a_fault() {
        assert_eq!(faults("crates/util/Cargo.toml", "").len(), 1);
        assert!(faults("crates/protocol/fuzz/Cargo.toml", "").is_empty());
    }
}
