//! The repository's own text files.

use std::fs;
use std::path::Path;

use crate::repository_root;

/// A file and what is in it.
pub(crate) struct File {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is only compiled for tests, by where it lies.
    pub(crate) fn is_test(&self) -> bool {
        const FOLDERS: [&str; 4] = ["tests", "fuzz", "benches", "examples"];
        self.name() == "tests.rs" || self.path.split('/').any(|part| FOLDERS.contains(&part))
    }
}

const FOLDERS: &[&str] = &["bench", "crates", "xtask", "docs"];
const ENDINGS: &[&str] = &["rs", "toml", "md"];
const SKIPPED: &[&str] = &["target", "scratch", "corpus", "artifacts", "node_modules"];

/// All source, manifest and document files, by path.
pub(crate) fn load() -> Result<Vec<File>, String> {
    let root = repository_root();
    let mut files = Vec::new();
    for folder in FOLDERS {
        walk(&root, &root.join(folder), &mut files)?;
    }
    for page in ["CHANGELOG.md", "README.md"] {
        let path = root.join(page);
        if path.is_file() {
            files.push(read(&root, &path)?);
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[expect(clippy::disallowed_methods, reason = "a tool for the repository's own files")]
fn walk(root: &Path, dir: &Path, files: &mut Vec<File>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", dir.display());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !SKIPPED.contains(&&*name) {
                walk(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|e| ENDINGS.iter().any(|ending| e == *ending)) {
            files.push(read(root, &path)?);
        }
    }
    Ok(())
}

fn read(root: &Path, path: &Path) -> Result<File, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let path = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    Ok(File { path, text })
}
