//! Bars as SVG: a scenario's first figure for each subject, with all runs as dots.

use std::fmt::Write as _;

use super::number;
use crate::scenario::Scenario;
use crate::session::Session;
use crate::subject::Kind;

const WIDTH: f64 = 720.0;
const LABEL: f64 = 190.0;
/// Room for the figure behind the longest bar.
const VALUE: f64 = 90.0;
const ROW: f64 = 24.0;
const HEADING: f64 = 34.0;

/// The plot of a scenario, if any of its parts was measured.
pub(super) fn scenario(scenario: &Scenario, session: &Session) -> Option<String> {
    let mut body = String::new();
    let mut y = 8.0;
    for part in &scenario.parts {
        let Some(result) = session.part(scenario.number, part.name) else { continue };
        let Some((figure, name)) = part.shown.first() else { continue };
        let rows: Vec<_> = part
            .kinds
            .iter()
            .filter_map(|kind| Some((*kind, result.spread(*kind, figure)?)))
            .collect();
        let most = rows.iter().map(|(_, spread)| spread.most).fold(0.0, f64::max);
        if most <= 0.0 {
            continue;
        }
        let _ = writeln!(
            body,
            r#"<text x="8" y="{:.0}" font-weight="bold">{}: {}</text>"#,
            y + 16.0,
            escaped(part.name),
            escaped(name)
        );
        y += HEADING;
        let scale = (WIDTH - LABEL - VALUE) / most;
        for (kind, spread) in rows {
            let middle = y + ROW / 2.0;
            let end = LABEL + spread.median * scale;
            let _ = writeln!(
                body,
                r##"<text x="{:.0}" y="{:.0}" text-anchor="end">{}</text><rect x="{LABEL:.0}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{}"/>"##,
                LABEL - 8.0,
                middle + 4.0,
                escaped(kind.name()),
                y + 3.0,
                spread.median * scale,
                ROW - 6.0,
                colour(kind)
            );
            for sample in result.samples.iter().filter(|sample| sample.kind == kind) {
                let Some(value) = sample.figures.get(*figure) else { continue };
                let _ = writeln!(
                    body,
                    r##"<circle cx="{:.1}" cy="{middle:.1}" r="2.5" fill="none" stroke="#222"/>"##,
                    LABEL + value * scale
                );
            }
            let _ = writeln!(
                body,
                r#"<text x="{:.1}" y="{:.0}">{}</text>"#,
                end.max(LABEL + spread.most * scale) + 8.0,
                middle + 4.0,
                number(spread.median)
            );
            y += ROW;
        }
        y += 10.0;
    }
    if body.is_empty() {
        return None;
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH:.0}\" height=\"{y:.0}\" \
         viewBox=\"0 0 {WIDTH:.0} {y:.0}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    ))
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Floor => "#b8b8b8",
        Kind::Klamm => "#2b7bba",
        Kind::KlammAcked => "#7fb2d9",
        Kind::KlammFull => "#a9cbe5",
        Kind::Kafka => "#d98032",
        Kind::Nisshi => "#9a7fb8",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        let all = crate::scenario::all();
        assert!(scenario(&all[0], &Session::default()).is_none());
    }

    #[test]
    fn text_cannot_end_its_element() {
        assert_eq!(escaped("<= 5 & more"), "&lt;= 5 &amp; more");
    }
}
