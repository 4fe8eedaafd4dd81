//! What the documents must have.

use super::files::File;

/// The sections of a decision, in order.
const SECTIONS: [&str; 4] = ["## Context", "## Decision", "## Consequences", "## Refused"];

pub(crate) fn change_log(files: &[File]) -> Vec<String> {
    match files.iter().find(|f| f.path == "CHANGELOG.md") {
        Some(file) if !file.text.trim().is_empty() => Vec::new(),
        _ => vec!["CHANGELOG.md is missing or empty".to_owned()],
    }
}

pub(crate) fn decisions(files: &[File]) -> Vec<String> {
    let pages = files.iter().filter(|f| {
        f.path.starts_with("docs/decisions/") && f.path.ends_with(".md") && f.name() != "README.md"
    });
    pages
        .filter_map(|page| {
            let headings: Vec<&str> =
                page.text.lines().map(str::trim).filter(|l| SECTIONS.contains(l)).collect();
            (headings != SECTIONS).then(|| format!("{} has {headings:?}", page.path))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_without_one_of_its_sections_is_a_fault() {
        let whole = SECTIONS.join("\n\ntext\n\n");
        let page = |text: &str| decisions(&[File::new("docs/decisions/0001-a.md", text)]);
        assert!(page(&whole).is_empty());
        assert_eq!(page(&whole.replace("## Refused", "")).len(), 1);
    }

    #[test]
    fn a_missing_change_log_is_a_fault() {
        assert_eq!(change_log(&[]).len(), 1);
        assert!(change_log(&[File::new("CHANGELOG.md", "# Changes\n")]).is_empty());
    }
}
