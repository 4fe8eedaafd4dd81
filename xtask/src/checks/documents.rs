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

/// Tests that the ledger of hazards names, as "`file` `function`", are there.
pub(crate) fn named_tests(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for page in files.iter().filter(|f| f.path == "docs/ledger/hazards.md") {
        for (number, line) in (1..).zip(page.text.lines()) {
            // What is between backquotes has odd places.
            let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
            for pair in quoted.windows(2).filter(|pair| pair[0].ends_with(".rs")) {
                let (path, test) = (pair[0], pair[1]);
                let file = files.iter().find(|f| f.path == path);
                if !file.is_some_and(|f| f.text.contains(&format!("fn {test}("))) {
                    faults.push(format!("{}:{number}: no {test} in {path}", page.path));
                }
            }
        }
    }
    faults
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
    fn a_ledger_that_names_a_test_that_is_not_there_is_a_fault() {
        let code = File::new("crates/a/tests/b.rs", "#[test]\nfn it_holds() {}\n");
        let ledger = |test: &str| {
            let row = format!("| 1 | `x` | `crates/a/tests/b.rs` `{test}` |\n");
            File::new("docs/ledger/hazards.md", &row)
        };
        let code = || File::new(&code.path, &code.text);
        assert!(named_tests(&[code(), ledger("it_holds")]).is_empty());
        let faults = named_tests(&[code(), ledger("it_does_not")]);
        assert_eq!(faults, ["docs/ledger/hazards.md:1: no it_does_not in crates/a/tests/b.rs"]);
        assert_eq!(named_tests(&[ledger("it_holds")]).len(), 1);
    }

    #[test]
    fn a_missing_change_log_is_a_fault() {
        assert_eq!(change_log(&[]).len(), 1);
        assert!(change_log(&[File::new("CHANGELOG.md", "# Changes\n")]).is_empty());
    }
}
