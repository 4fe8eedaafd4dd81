//! Java's properties files, as far as `meta.properties` and its like need them.

use std::collections::BTreeMap;

const CHECKSUM: &str = "checksum";

/// Names and values, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    values: BTreeMap<String, String>,
}

impl Properties {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// The text, a line for each value.
    pub(crate) fn encode(&self) -> String {
        self.values.iter().map(|(name, value)| format!("{name}={}\n", escape(value))).collect()
    }

    /// The text with its CRC-32C in the last line.
    pub(crate) fn encode_checked(&self) -> String {
        let mut text = self.encode();
        let crc = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("{CHECKSUM}={crc:08x}\n"));
        text
    }

    /// Reads a properties file; lines that assign nothing are left out.
    pub(crate) fn decode(text: &str) -> Properties {
        let mut properties = Properties::default();
        for line in text.lines().map(str::trim_start) {
            if line.starts_with(['#', '!']) {
                continue;
            }
            if let Some((name, value)) = line.split_once('=') {
                properties.set(name.trim_end(), &unescape(value.trim()));
            }
        }
        properties
    }

    /// Reads what [`Properties::encode_checked`] wrote; `None` where the CRC is wrong.
    pub(crate) fn decode_checked(text: &str) -> Option<Properties> {
        let start = text.rfind(&format!("{CHECKSUM}="))?;
        let crc = text[start..].strip_prefix(CHECKSUM)?.strip_prefix('=')?.strip_suffix('\n')?;
        let crc = u32::from_str_radix(crc, 16).ok()?;
        (crc == crc32c::crc32c(&text.as_bytes()[..start])).then(|| Self::decode(&text[..start]))
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace(':', "\\:").replace('=', "\\=")
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_back() {
        let mut properties = Properties::default();
        properties.set("a", "x=y:z\\n");
        properties.set("b", "");
        assert_eq!(Properties::decode(&properties.encode()), properties);
        let text = properties.encode_checked();
        assert_eq!(Properties::decode_checked(&text), Some(properties));
        assert_eq!(Properties::decode_checked(&text.replace('x', "w")), None);
        assert_eq!(Properties::decode_checked(&text[..text.len() - 1]), None);
    }

    #[test]
    fn a_file_of_apache_kafka_is_read() {
        let text = "#\n#Sun Nov 22 22:24:43 UTC 2026\ncluster.id=q1Sh-9_ISia_zwGINzRvyQ\n\
                    directory.id=xY9\nnode.id=1\nversion=1\n";
        let properties = Properties::decode(text);
        assert_eq!(properties.get("node.id"), Some("1"));
        assert_eq!(properties.get("cluster.id"), Some("q1Sh-9_ISia_zwGINzRvyQ"));
    }
}
