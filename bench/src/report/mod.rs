//! What was found, for people: a table with goals beside figures, and plots.

mod plot;
mod verdict;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Result;
use crate::scenario::{Part, Scenario};
use crate::session::{PartResult, Session};
use crate::subject::Kind;

/// Where the generated part of the document begins and ends.
const BEGIN: &str =
    "<!-- bench: what follows is written by `cargo xtask bench --report --save` -->";
const END: &str = "<!-- bench: end -->";
const DOCUMENT: &str = "docs/performance.md";
const PLOTS: &str = "docs/performance";
const RESULTS: &str = "bench/results";
/// What a document that is not there yet begins with.
const TITLE: &str = "# Performance\n\n";

/// A figure with three significant digits, or as a whole number.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 10_000.0 {
        return grouped(value.round());
    }
    let digits = match magnitude {
        m if m >= 100.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 1.0 || m == 0.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// The whole report.
pub(crate) fn markdown(scenarios: &[Scenario], session: &Session) -> String {
    let mut text = String::new();
    describe(&mut text, session);
    for scenario in scenarios {
        let measured = scenario
            .parts
            .iter()
            .filter_map(|part| Some((part, session.part(scenario.number, part.name)?)));
        let measured: Vec<(&Part, &PartResult)> = measured.collect();
        if measured.is_empty() {
            continue;
        }
        let _ = writeln!(text, "### {}: {}\n", scenario.number, scenario.title);
        for (part, result) in measured {
            table(&mut text, part, result);
            verdict::goals(&mut text, part, result, session);
            remarks(&mut text, result);
        }
    }
    let missing: Vec<String> = scenarios
        .iter()
        .flat_map(|s| s.parts.iter().map(move |part| (s.number, part.name)))
        .filter(|(number, name)| session.part(number, name).is_none())
        .map(|(number, name)| format!("{number} ({name})"))
        .collect();
    if !missing.is_empty() {
        let _ = writeln!(text, "Not measured in this session: {}.\n", missing.join(", "));
    }
    text
}

fn describe(text: &mut String, session: &Session) {
    let Some(part) = session.parts.last() else { return };
    let machine = &part.machine;
    let _ = writeln!(
        text,
        "Machine: {}, {} CPUs, {:.0} GiB, Linux {}, {}, TCP {}. Apache Kafka {}. Klamm at {}. \
         GB are 1e9 payload bytes; CPU is that of all the broker's threads; median (least to most) \
         of all runs that count. Ratios are of medians.\n",
        machine.cpu,
        machine.cpus,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        machine.congestion_control,
        part.kafka_version.as_deref().unwrap_or("left out"),
        part.commit,
    );
}

fn table(text: &mut String, part: &Part, result: &PartResult) {
    let names: Vec<&str> = part.shown.iter().map(|(_, name)| *name).collect();
    let _ = writeln!(text, "| {} | {} | to floor | to Kafka |", part.name, names.join(" | "));
    let _ = writeln!(text, "| --- |{}", " --- |".repeat(names.len() + 2));
    for kind in part.kinds.iter().copied() {
        let spreads: Vec<_> =
            part.shown.iter().map(|(figure, _)| result.spread(kind, figure)).collect();
        if spreads.iter().all(Option::is_none) {
            continue;
        }
        let cells: Vec<String> = spreads
            .iter()
            .map(|spread| {
                spread.map_or_else(String::new, |s| {
                    format!("{} ({} to {})", number(s.median), number(s.least), number(s.most))
                })
            })
            .collect();
        let ratio = |to: Kind| {
            let first = part.shown.first()?.0;
            let own = result.spread(kind, first)?.median;
            let other = result.spread(to, first).filter(|_| to != kind)?.median;
            (other > 0.0).then(|| format!("{:.2}", own / other))
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            kind.name(),
            cells.join(" | "),
            ratio(Kind::Floor).unwrap_or_default(),
            ratio(Kind::Kafka).unwrap_or_default()
        );
    }
    text.push('\n');
}

fn remarks(text: &mut String, result: &PartResult) {
    let runs = result.samples.len();
    let steal = result.samples.iter().map(|s| s.disturbance.steal).fold(0.0, f64::max);
    let others = result.samples.iter().map(|s| s.disturbance.others).fold(0.0, f64::max);
    let _ = write!(
        text,
        "{}, at {}; {runs} runs, {} rounds dropped; at most {steal:.2} CPU stolen, {others:.2} used by others.",
        result.date, result.commit, result.dropped
    );
    if result.run_bytes > 0 {
        let _ = write!(text, " {} MB a run.", number(result.run_bytes as f64 / 1e6));
    }
    if result.disturbed {
        text.push_str(" **Disturbed**: no quieter rounds could be had, do not quote these.");
    }
    if (result.scale - 1.0).abs() > f64::EPSILON {
        let _ = write!(text, " At {} of the real size.", result.scale);
    }
    if result.pinned {
        text.push_str(" Broker and clients on a core each.");
    }
    for (kind, error) in &result.failures {
        let _ = write!(text, " {} could not follow: {error}.", kind.name());
    }
    text.push_str("\n\n");
}

/// Writes the results' file, the plots and the document's generated part.
pub(crate) fn publish(root: &Path, scenarios: &[Scenario], session: &Session) -> Result<()> {
    let date = session.parts.iter().map(|part| part.date.as_str()).max().unwrap_or("none");
    let day = date.split(' ').next().unwrap_or("none");
    for folder in [RESULTS, PLOTS] {
        fs::create_dir_all(root.join(folder)).map_err(|e| format!("{folder}: {e}"))?;
    }
    session.save(&root.join(RESULTS).join(format!("{day}.json")))?;
    let mut text = markdown(scenarios, session);
    for scenario in scenarios {
        let Some(svg) = plot::scenario(scenario, session) else { continue };
        let name = format!("scenario-{}.svg", scenario.number);
        let file = root.join(PLOTS).join(&name);
        fs::write(&file, svg).map_err(|e| format!("{}: {e}", file.display()))?;
        let heading = format!("### {}: {}\n\n", scenario.number, scenario.title);
        let image = format!("{heading}![{}](performance/{name})\n\n", scenario.title);
        text = text.replacen(&heading, &image, 1);
    }
    let file = root.join(DOCUMENT);
    let old = fs::read_to_string(&file).unwrap_or_else(|_| TITLE.to_owned());
    fs::write(&file, replaced(&old, &text)).map_err(|e| format!("{}: {e}", file.display()))
}

/// The document with `text` between its markers, which come at the end if they are not there.
fn replaced(document: &str, text: &str) -> String {
    let before = document.split(BEGIN).next().unwrap_or_default();
    let after = document.split_once(END).map_or("\n", |(_, after)| after);
    format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_that_count() {
        assert_eq!(number(0.5678), "0.568");
        assert_eq!(number(1.234), "1.23");
        assert_eq!(number(45.67), "45.7");
        assert_eq!(number(2_345_678.9), "2,345,679");
        assert_eq!(number(100_000.0), "100,000");
    }

    #[test]
    fn only_what_lies_between_the_markers_is_replaced() {
        let first = replaced("# Performance\n\nBy hand.\n\n", "one");
        assert!(first.starts_with("# Performance\n\nBy hand.\n\n<!-- bench"));
        let second = replaced(&format!("{first}Behind.\n"), "two");
        assert!(
            second.contains("By hand.") && second.contains("two") && second.contains("Behind.")
        );
        assert!(!second.contains("one"));
        assert_eq!(second.matches(BEGIN).count(), 1);
    }
}
