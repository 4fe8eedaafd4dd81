//! `cargo xtask codegen`: `crates/protocol/schemas/*.txt` to `crates/protocol/src/messages/*.rs`.
//!
//! The generated files are committed; `--check` only says whether they are what the schemas give.

mod emit;
mod expressions;
mod index;
pub(crate) mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::repository_root;

/// Generates, or with `--check` compares.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => write(),
        [flag] if flag == "--check" => check(),
        _ => Err("usage: cargo xtask codegen [--check]".into()),
    }
}

fn schemas_dir() -> PathBuf {
    repository_root().join("crates/protocol/schemas")
}

fn messages_dir() -> PathBuf {
    repository_root().join("crates/protocol/src/messages")
}

/// Succeeds if the committed files are what the schemas give.
pub(crate) fn check() -> Result<(), String> {
    let wanted = generate()?;
    let found = committed()?;
    let stale = wanted.iter().filter(|(name, text)| found.get(*name) != Some(text));
    let left_over = found.iter().filter(|(name, _)| !wanted.contains_key(*name));
    let names: Vec<&str> = stale.chain(left_over).map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(format!("run `cargo xtask codegen`; out of date: {}", names.join(", ")))
}

#[expect(clippy::disallowed_methods, reason = "a tool for the repository's own files")]
fn write() -> Result<(), String> {
    let wanted = generate()?;
    let found = committed()?;
    let dir = messages_dir();
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for (name, text) in &wanted {
        if found.get(name) != Some(text) {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        let path = dir.join(name);
        fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// File name to text, for every generated file.
fn generate() -> Result<BTreeMap<String, String>, String> {
    let mut schemas = Vec::new();
    for (name, text) in read_dir(&schemas_dir(), "txt")? {
        schemas.push(schema::parse(name.trim_end_matches(".txt"), &text)?);
    }
    let mut files = BTreeMap::new();
    for schema in &schemas {
        files.insert(format!("{}.rs", schema.module), format_rust(&emit::module(schema))?);
    }
    files.insert("mod.rs".to_owned(), format_rust(&index::index(&schemas))?);
    Ok(files)
}

fn committed() -> Result<BTreeMap<String, String>, String> {
    let dir = messages_dir();
    if dir.exists() { read_dir(&dir, "rs") } else { Ok(BTreeMap::new()) }
}

/// File name to text, for every file in `dir` with this ending.
#[expect(clippy::disallowed_methods, reason = "a tool for the repository's own files")]
fn read_dir(dir: &Path, ending: &str) -> Result<BTreeMap<String, String>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == ending) {
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let name = path.file_name().expect("an entry of a directory").to_string_lossy();
            files.insert(name.into_owned(), text);
        }
    }
    Ok(files)
}

fn format_rust(text: &str) -> Result<String, String> {
    let config = repository_root().join("rustfmt.toml");
    let mut rustfmt = Command::new("rustfmt")
        .arg("--edition=2024")
        .arg("--config-path")
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("rustfmt: {e}"))?;
    let mut input = rustfmt.stdin.take().expect("asked for a pipe");
    let written = input.write_all(text.as_bytes());
    drop(input);
    let output = rustfmt.wait_with_output().map_err(|e| format!("rustfmt: {e}"))?;
    if !output.status.success() || written.is_err() {
        return Err(format!("rustfmt refused:\n{text}"));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("rustfmt: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_messages_are_what_the_schemas_give() {
        check().expect("up to date");
    }

    #[test]
    fn a_schema_mistake_is_named_with_its_line() {
        let parse = |text| schema::parse("x", text).map(drop).expect_err("a mistake");
        assert!(parse("request R 0-1\n  a int7\n").starts_with("x.txt:2: unknown type int7"));
        assert!(parse("request R 0-1\n   a int8\n").contains("odd indentation"));
        assert!(parse("request R 0-1\n  a int8 tag 0\n").contains("not flexible"));
        assert!(parse("request R 0-1\n  a int8 = null\n").contains("never null"));
        assert!(parse("request R 0-1\n  a A\n").contains("A has no fields"));
    }
}
