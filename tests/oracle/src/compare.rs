//! Two transcripts and the list of what may differ.

use std::collections::BTreeMap;
use std::fmt;

/// What a broker answered to one step of a case.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// `Api.vN.step`.
    pub(crate) label: String,
    /// The answer by path; `outcome` says what came instead of one.
    pub(crate) values: BTreeMap<String, String>,
}

/// A field in which the brokers differ.
#[derive(Debug)]
pub(crate) struct Difference {
    case: String,
    label: String,
    path: String,
    kafka: String,
    klamm: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { case, label, path, kafka, klamm } = self;
        write!(f, "{label} ({case}): {path}: kafka={kafka} klamm={klamm}")
    }
}

const ABSENT: &str = "<absent>";

pub(crate) fn compare(
    case: &str,
    kafka: &[Entry],
    klamm: &[Entry],
    rules: &mut MayDiffer,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let steps = kafka.len().max(klamm.len());
    for step in 0..steps {
        let (a, b) = (kafka.get(step), klamm.get(step));
        let (label_a, label_b) = (a.map(|e| e.label.as_str()), b.map(|e| e.label.as_str()));
        if label_a != label_b {
            found.push(Difference {
                case: case.to_owned(),
                label: label_a.or(label_b).unwrap_or_default().to_owned(),
                path: "step".to_owned(),
                kafka: label_a.unwrap_or(ABSENT).to_owned(),
                klamm: label_b.unwrap_or(ABSENT).to_owned(),
            });
            break;
        }
        if let (Some(a), Some(b)) = (a, b) {
            compare_entries(case, a, b, rules, &mut found);
        }
    }
    found
}

fn compare_entries(
    case: &str,
    kafka: &Entry,
    klamm: &Entry,
    rules: &mut MayDiffer,
    found: &mut Vec<Difference>,
) {
    let mut paths: Vec<&String> = kafka.values.keys().chain(klamm.values.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let value = |entry: &Entry| entry.values.get(path).map_or(ABSENT, |v| v).to_owned();
        let (a, b) = (value(kafka), value(klamm));
        if a != b && !rules.allow(&kafka.label, path, &a, &b) {
            found.push(Difference {
                case: case.to_owned(),
                label: kafka.label.clone(),
                path: path.clone(),
                kafka: a,
                klamm: b,
            });
        }
    }
}

/// How far two values may be apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freedom {
    /// As far as they like.
    Any,
    /// Both null or neither.
    Null,
    /// Both below zero or neither.
    Sign,
    /// Klamm may lack it.
    Kafkas,
    /// Kafka may lack it.
    Ours,
}

struct Rule {
    line: String,
    label: String,
    path: String,
    freedom: Freedom,
    used: bool,
}

/// The list in `may-differ.txt`: a step, a path (both with `*`), how far ([`Freedom`]), and
/// a reason, one to a line.
pub(crate) struct MayDiffer {
    rules: Vec<Rule>,
}

impl MayDiffer {
    pub(crate) fn parse(text: &str) -> Result<MayDiffer, String> {
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(4, char::is_whitespace).map(str::trim);
            let (label, path) = (words.next(), words.next());
            let rest = words.collect::<Vec<_>>().join(" ");
            let (freedom, reason) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
            let freedom = match freedom {
                "any" => Freedom::Any,
                "null" => Freedom::Null,
                "sign" => Freedom::Sign,
                "kafkas" => Freedom::Kafkas,
                "ours" => Freedom::Ours,
                other => return Err(format!("may-differ.txt line {}: {other:?}", index + 1)),
            };
            let (Some(label), Some(path), false) = (label, path, reason.trim().is_empty()) else {
                return Err(format!("may-differ.txt line {}: no reason", index + 1));
            };
            rules.push(Rule {
                line: line.to_owned(),
                label: label.to_owned(),
                path: path.to_owned(),
                freedom,
                used: false,
            });
        }
        Ok(MayDiffer { rules })
    }

    fn allow(&mut self, label: &str, path: &str, kafka: &str, klamm: &str) -> bool {
        let covering = |rule: &&mut Rule| {
            glob(&rule.label, label)
                && glob(&rule.path, path)
                && match rule.freedom {
                    Freedom::Any => true,
                    Freedom::Null => (kafka == "None") == (klamm == "None"),
                    Freedom::Kafkas => klamm == ABSENT,
                    Freedom::Ours => kafka == ABSENT,
                    Freedom::Sign => sign(kafka).is_some_and(|of| sign(klamm) == Some(of)),
                }
        };
        let rule = self.rules.iter_mut().find(covering);
        rule.map(|rule| rule.used = true).is_some()
    }

    pub(crate) fn unused(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter(|rule| !rule.used).map(|rule| rule.line.as_str())
    }
}

fn sign(value: &str) -> Option<bool> {
    value.parse::<i64>().ok().map(i64::is_negative)
}

/// Whether `text` fits `pattern`, in which `*` stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_written() {
        assert!(glob("*throttle_time_ms", "a.throttle_time_ms"));
        assert!(glob("a[*].b", "a[x.y].b") && !glob("a[*].b", "a[x].c"));
        assert!(glob("a", "a") && !glob("a", "ab") && !glob("ab*b", "ab"));
    }

    fn entry(path: &str, value: &str) -> Vec<Entry> {
        let values = BTreeMap::from([(path.to_owned(), value.to_owned())]);
        vec![Entry { label: "Api.v1.step".to_owned(), values }]
    }

    #[test]
    fn a_difference_is_one_unless_the_list_allows_it() {
        let mut rules = MayDiffer::parse(
            "# comment\nApi.v1.* a any reason\n* b null reason\n* c sign why not\n",
        )
        .unwrap();
        let mut differ = |path: &str, kafka: &str, klamm: &str| {
            !compare("case", &entry(path, kafka), &entry(path, klamm), &mut rules).is_empty()
        };
        assert!(!differ("a", "1", "2") && !differ("z", "1", "1"));
        assert!(differ("z", "1", "2"));
        assert!(!differ("b", "\"x\"", "\"y\"") && differ("b", "None", "\"y\""));
        assert!(!differ("c", "5", "7") && differ("c", "-1", "7") && differ("c", "x", "7"));
        assert_eq!(rules.unused().count(), 0);
    }

    #[test]
    fn rules_need_a_reason() {
        assert!(MayDiffer::parse("* a any").is_err());
        assert!(MayDiffer::parse("* a often because").is_err());
    }
}
