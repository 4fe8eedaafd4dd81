//! An answer as paths and values.
//!
//! The pretty Debug form of the generated messages is regular enough to be read back: structures,
//! lists, optional and plain values, one a line. Elements of a list are called by what tells them
//! apart (a name, a partition), so that their order does not matter.

use std::collections::BTreeMap;

/// A value read back.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Plain(String),
    Fields(Vec<(String, Value)>),
    List(Vec<Value>),
}

/// Fields that tell the elements of a list apart, the first that an element has.
const NAMING: &[&str] = &[
    "name",
    "topic",
    "group_id",
    "resource_name",
    "partition_index",
    "partition",
    "index",
    "broker_id",
    "node_id",
    "api_key",
    "key",
    "member_id",
    "topic_id",
];

/// Stands in for what differs from broker to broker and from run to run, the same one for the same
/// value within a case.
#[derive(Default)]
pub(crate) struct Symbols {
    uuids: Vec<String>,
}

impl Symbols {
    fn replace(&mut self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = uuid_at(rest) {
            let (uuid, after) = rest[at..].split_at(UUID_LEN);
            replaced.push_str(&rest[..at]);
            if uuid == NIL {
                replaced.push_str("<no id>");
            } else {
                let known = self.uuids.iter().position(|other| other == uuid);
                let number = known.unwrap_or_else(|| {
                    self.uuids.push(uuid.to_owned());
                    self.uuids.len() - 1
                });
                replaced.push_str(&format!("<id {number}>"));
            }
            rest = after;
        }
        replaced.push_str(rest);
        replaced
    }
}

const UUID_LEN: usize = 36;
const NIL: &str = "00000000-0000-0000-0000-000000000000";

fn uuid_at(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..=bytes.len().checked_sub(UUID_LEN)?).find(|&at| {
        bytes[at..at + UUID_LEN].iter().enumerate().all(|(n, byte)| match n {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        })
    })
}

/// The values of a Debug form by path.
pub(crate) fn flatten(debug: &str, symbols: &mut Symbols) -> BTreeMap<String, String> {
    let lines: Vec<&str> = debug.lines().map(str::trim).collect();
    let mut at = 0;
    let value = read(&lines, &mut at);
    let mut flat = BTreeMap::new();
    place(&value, "", symbols, &mut flat);
    flat
}

fn read(lines: &[&str], at: &mut usize) -> Value {
    let Some(line) = lines.get(*at) else { return Value::Plain(String::new()) };
    *at += 1;
    read_from(line, lines, at)
}

/// A value whose first line is `first`; `at` stands behind it.
fn read_from(first: &str, lines: &[&str], at: &mut usize) -> Value {
    if first == "[" {
        let mut items = Vec::new();
        while let Some(line) = lines.get(*at) {
            if line.trim_end_matches(',') == "]" {
                *at += 1;
                break;
            }
            items.push(read(lines, at));
        }
        return Value::List(items);
    }
    if first.ends_with('{') {
        let mut fields = Vec::new();
        while let Some(line) = lines.get(*at) {
            *at += 1;
            if line.trim_end_matches(',') == "}" {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            fields.push((name.to_owned(), read_from(value, lines, at)));
        }
        return Value::Fields(fields);
    }
    if let Some(variant) = first.strip_suffix('(') {
        let inner = read(lines, at);
        *at += 1;
        return if variant == "Some" {
            inner
        } else {
            Value::Fields(vec![(variant.to_owned(), inner)])
        };
    }
    match first.trim_end_matches(',') {
        "[]" => Value::List(Vec::new()),
        text => Value::Plain(text.to_owned()),
    }
}

fn place(value: &Value, path: &str, symbols: &mut Symbols, flat: &mut BTreeMap<String, String>) {
    match value {
        Value::Plain(text) => {
            flat.insert(path.to_owned(), symbols.replace(text));
        }
        Value::Fields(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                place(value, &path, symbols, flat);
            }
        }
        Value::List(items) => {
            flat.insert(format!("{path}.len"), items.len().to_string());
            let mut named: Vec<(String, &Value)> =
                items.iter().map(|item| (element_name(item), item)).collect();
            named.sort_by(|a, b| a.0.cmp(&b.0));
            let mut before: Option<(String, usize)> = None;
            for (name, item) in named {
                let name = symbols.replace(&name);
                let nth = match &before {
                    Some((other, nth)) if *other == name => nth + 1,
                    _ => 0,
                };
                let shown = if nth == 0 { name.clone() } else { format!("{name}#{nth}") };
                place(item, &format!("{path}[{shown}]"), symbols, flat);
                before = Some((name, nth));
            }
        }
    }
}

fn element_name(item: &Value) -> String {
    match item {
        Value::Plain(text) => text.clone(),
        Value::List(_) => "list".to_owned(),
        Value::Fields(fields) => {
            let plain = |naming: &&str| {
                fields.iter().find_map(|(name, value)| match value {
                    Value::Plain(text)
                        if name == naming && text != "None" && text != "\"\"" && text != NIL =>
                    {
                        Some(text.trim_matches('"').to_owned())
                    }
                    _ => None,
                })
            };
            NAMING.iter().find_map(plain).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[expect(dead_code, reason = "read through Debug")]
    struct Inner {
        name: &'static str,
        value: Option<i32>,
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "read through Debug")]
    struct Outer {
        code: i16,
        id: uuid::Uuid,
        text: Option<&'static str>,
        empty: Vec<i32>,
        plain: Vec<i32>,
        inner: Vec<Inner>,
        maybe: Option<Vec<i32>>,
    }

    #[test]
    fn debug_forms_are_read_back() {
        let outer = Outer {
            code: 3,
            id: uuid::Uuid::from_u128(7),
            text: Some("a {, [b\n"),
            empty: Vec::new(),
            plain: vec![2, 1],
            inner: vec![
                Inner { name: "y", value: Some(1) },
                Inner { name: "x", value: None },
                Inner { name: "x", value: Some(2) },
            ],
            maybe: None,
        };
        let flat = flatten(&format!("{outer:#?}"), &mut Symbols::default());
        let value = |path: &str| flat.get(path).map(String::as_str);
        assert_eq!(value("code"), Some("3"));
        assert_eq!(value("id"), Some("<id 0>"));
        assert_eq!(value("text"), Some("\"a {, [b\\n\""));
        assert_eq!(value("plain[1]"), Some("1"));
        assert_eq!(value("inner.len"), Some("3"));
        assert_eq!(value("inner[y].value"), Some("1"));
        assert_eq!(value("inner[x].value"), Some("None"));
        assert_eq!(value("inner[x#1].value"), Some("2"));
        assert_eq!(value("maybe"), Some("None"));
        assert_eq!(value("empty.len"), Some("0"));
    }
}
