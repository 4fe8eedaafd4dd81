//! The command line.

use crate::Result;
use crate::scenario::Scenario;

const USAGE: &str = "usage: cargo xtask bench [OPTION...]
  --list             name the scenarios
  --scenario N...    run these; all of them by default
  --part TEXT        run the parts whose names contain it
  --rounds R         rounds that count, of each part (default 5)
  --resume           leave out the parts that are done
  --report           run nothing, show what is there
  --save             write bench/results, and the table and plots of docs/performance.md
  --smoke            tiny, in seconds, only what is here already; for CI
  --scale F          factor on all sizes (default 1.0)
  --disk-gb N        most that lies on disk at once (default 40, at most 60)
  --pinned           brokers on core 0, clients on core 1
  --no-prefill       do not fill the page cache first
  --any-load         let rounds count that others disturbed
  --soak-s N         length of the soak in seconds (default 7200)";

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) list: bool,
    scenarios: Vec<String>,
    part: Option<String>,
    pub(crate) rounds: usize,
    pub(crate) resume: bool,
    pub(crate) report_only: bool,
    pub(crate) save: bool,
    pub(crate) smoke: bool,
    pub(crate) scale: f64,
    pub(crate) disk_bytes: u64,
    pub(crate) pinned: bool,
    pub(crate) prefill: bool,
    pub(crate) quiet_only: bool,
    pub(crate) soak_s: u64,
}

const GB: u64 = 1_000_000_000;
const DISK_GB_MAX: u64 = 60;

impl Arguments {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut parsed = Self {
            list: false,
            scenarios: Vec::new(),
            part: None,
            rounds: 0,
            resume: false,
            report_only: false,
            save: false,
            smoke: false,
            scale: 1.0,
            disk_bytes: 40 * GB,
            pinned: false,
            prefill: true,
            quiet_only: true,
            soak_s: 7200,
        };
        let mut rest = arguments.iter().peekable();
        while let Some(option) = rest.next() {
            let mut value = || rest.next().map(String::as_str).ok_or(USAGE);
            match option.as_str() {
                "--list" => parsed.list = true,
                "--scenario" => {
                    parsed.scenarios.push(value()?.to_owned());
                    while let Some(number) = rest.next_if(|next| !next.starts_with("--")) {
                        parsed.scenarios.push(number.clone());
                    }
                }
                "--part" => parsed.part = Some(value()?.to_owned()),
                "--rounds" => parsed.rounds = number(value()?)?,
                "--resume" => parsed.resume = true,
                "--report" => parsed.report_only = true,
                "--save" => parsed.save = true,
                "--smoke" => parsed.smoke = true,
                "--scale" => parsed.scale = number(value()?)?,
                "--disk-gb" => parsed.disk_bytes = number::<u64>(value()?)?.min(DISK_GB_MAX) * GB,
                "--pinned" => parsed.pinned = true,
                "--no-prefill" => parsed.prefill = false,
                "--any-load" => parsed.quiet_only = false,
                "--soak-s" => parsed.soak_s = number(value()?)?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        if parsed.rounds == 0 {
            parsed.rounds = if parsed.smoke { 1 } else { 5 };
        }
        Ok(parsed)
    }

    /// The scenarios that are asked for, in the order of their worth.
    pub(crate) fn chosen<'a>(
        &self,
        all: &'a [Scenario],
        smoke: &[&str],
    ) -> Result<Vec<&'a Scenario>> {
        let wanted: Vec<&str> = match (&self.scenarios[..], self.smoke) {
            ([], true) => smoke.to_vec(),
            ([], false) => return Ok(all.iter().collect()),
            (named, _) => named.iter().map(String::as_str).collect(),
        };
        if let Some(unknown) = wanted.iter().find(|n| !all.iter().any(|s| s.number == **n)) {
            return Err(format!("no scenario {unknown}; --list names them"));
        }
        Ok(all.iter().filter(|scenario| wanted.contains(&scenario.number)).collect())
    }

    pub(crate) fn wants_part(&self, name: &str) -> bool {
        self.part.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N> {
    text.parse().map_err(|_| format!("{text} is not a number that fits here\n{USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    fn parse(line: &str) -> Result<Arguments> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Arguments::parse(&words)
    }

    #[test]
    fn scenarios_come_in_the_order_of_their_worth() {
        let all = scenario::all();
        let chosen = parse("--scenario 5 1 --rounds 2").expect("known options");
        let numbers: Vec<&str> =
            chosen.chosen(&all, &[]).expect("known").iter().map(|s| s.number).collect();
        assert_eq!((numbers, chosen.rounds), (vec!["1", "5"], 2));
        assert!(parse("--scenario 99").expect("an option").chosen(&all, &[]).is_err());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(parse("--fast").is_err());
        assert!(parse("--rounds many").is_err());
        assert!(parse("--scenario").is_err());
    }

    #[test]
    fn the_disk_is_bounded() {
        assert_eq!(parse("--disk-gb 500").expect("a number").disk_bytes, 60 * GB);
    }
}
