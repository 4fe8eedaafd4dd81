//! What people and programs get to read.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Columns under headings, as wide as what stands in them; numbers stand to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len(), "a cell for each heading");
        self.rows.push(cells);
    }

    pub(crate) fn format(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let numeric: Vec<_> = (0..columns).map(|column| self.is_numeric(column)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                line.push_str(&if numeric[column] {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                });
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn is_numeric(&self, column: usize) -> bool {
        let cells = || self.rows[1..].iter().map(|row| row[column].as_str());
        cells().all(|cell| cell == "-" || cell.parse::<i64>().is_ok()) && cells().count() > 0
    }
}

/// Writes all of `bytes` to standard output now.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Writes for people or, as one line of JSON, for programs.
pub(crate) fn print(
    as_json: bool,
    json: impl FnOnce() -> Value,
    text: impl FnOnce() -> String,
) -> io::Result<()> {
    let text = if as_json { format!("{}\n", json()) } else { text() };
    write(text.as_bytes())
}

/// A number that may be missing.
pub(crate) fn number_or_dash<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// How far a long work has come, on standard error if that is a terminal.
pub(crate) struct Progress {
    told: Instant,
    is_shown: bool,
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { told: Instant::now(), is_shown: false, is_terminal }
    }

    /// Tells, unless that was done a moment ago.
    pub(crate) fn tell(&mut self, text: impl FnOnce() -> String) {
        if self.is_terminal && self.told.elapsed() >= PROGRESS_INTERVAL {
            eprint!("\r{}", text());
            self.told = Instant::now();
            self.is_shown = true;
        }
    }

    /// Makes room for what comes next.
    pub(crate) fn finish(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["NAME", "LAG", "HOST"]);
        table.row(vec!["a".into(), "5".into(), "x".into()]);
        table.row(vec!["längst".into(), "-".into(), String::new()]);
        table.row(vec!["b".into(), "12345".into(), "yy".into()]);
        let expected = "NAME      LAG  HOST\na           5  x\nlängst      -\nb       12345  yy\n";
        assert_eq!(table.format(), expected);
    }

    #[test]
    fn a_table_without_rows_is_its_headings() {
        assert_eq!(Table::new(&["TOPIC", "PARTITIONS"]).format(), "TOPIC  PARTITIONS\n");
    }

    #[test]
    fn counts_read_as_people_write_them() {
        assert_eq!(count(1, "record"), "1 record");
        assert_eq!(count(0, "record"), "0 records");
        assert_eq!(number_or_dash(Some(3)), "3");
        assert_eq!(number_or_dash(None::<i64>), "-");
    }
}
