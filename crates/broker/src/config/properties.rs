//! Java's properties syntax, in which Kafka's `server.properties` is written.

/// One key with its value and the line it begins on (from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) line: usize,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A line that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) line: usize,
    pub(crate) reason: &'static str,
}

/// Reads a whole file. The same key may come more than once; the last one counts.
pub(crate) fn parse(text: &str) -> Result<Vec<Property>, Malformed> {
    let mut properties = Vec::new();
    for (line, logical) in logical_lines(text) {
        let (key, value) = split_key(&logical);
        let unescaped = |text| unescape(text).map_err(|reason| Malformed { line, reason });
        properties.push(Property { line, key: unescaped(key)?, value: unescaped(value)? });
    }
    Ok(properties)
}

/// Joins lines that end in an odd number of backslashes with what follows; drops comments and
/// blanks.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    let text = text.replace("\r\n", "\n");
    for (index, natural) in text.split(['\n', '\r']).enumerate() {
        let body = natural.trim_start_matches([' ', '\t', '\x0c']);
        if !continues && (body.is_empty() || body.starts_with(['#', '!'])) {
            continue;
        }
        let trailing = body.len() - body.trim_end_matches('\\').len();
        let ends_open = trailing % 2 == 1;
        let kept = if ends_open { &body[..body.len() - 1] } else { body };
        match joined.last_mut() {
            Some((_, logical)) if continues => logical.push_str(kept),
            _ => joined.push((index + 1, kept.to_owned())),
        }
        continues = ends_open;
    }
    joined
}

/// The key ends at the first `=`, `:` or blank that is not escaped.
fn split_key(logical: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = logical
        .char_indices()
        .find(|&(_, c)| {
            let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t' | '\x0c');
            escaped = c == '\\' && !escaped;
            ends
        })
        .map_or(logical.len(), |(at, _)| at);
    let blanks = [' ', '\t', '\x0c'];
    let rest = logical[end..].trim_start_matches(blanks);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(blanks);
    (&logical[..end], value)
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(text.len());
    let mut units: Vec<u16> = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escape = if c == '\\' { chars.next() } else { None };
        if escape == Some('u') {
            let digits: String = chars.by_ref().take(4).collect();
            let unit = u16::from_str_radix(&digits, 16);
            match unit {
                Ok(unit) if digits.len() == 4 => units.push(unit),
                _ => return Err("\\u needs four hexadecimal digits"),
            }
            continue;
        }
        flush_units(&mut units, &mut plain)?;
        match escape {
            None if c == '\\' => {}
            None => plain.push(c),
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\x0c'),
            Some(other) => plain.push(other),
        }
    }
    flush_units(&mut units, &mut plain)?;
    Ok(plain)
}

/// Several `\u` in a row may be halves of one character.
fn flush_units(units: &mut Vec<u16>, plain: &mut String) -> Result<(), &'static str> {
    if units.is_empty() {
        return Ok(());
    }
    let text = String::from_utf16(units).map_err(|_| "\\u gives half a character")?;
    plain.push_str(&text);
    units.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        parse(text).unwrap().into_iter().map(|p| (p.line, p.key, p.value)).collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{all:?}");
        let (_, key, value) = all.remove(0);
        (key, value)
    }

    #[test]
    fn keys_end_at_equals_colon_or_blank() {
        for text in ["a=b", "a = b", "a:b", "a : b", "a b", "  a\t=\tb", "a   b"] {
            assert_eq!(one(text), ("a".into(), "b".into()), "{text:?}");
        }
        assert_eq!(one("a==b"), ("a".into(), "=b".into()));
        assert_eq!(one("a"), ("a".into(), String::new()));
        assert_eq!(one("listeners=PLAINTEXT://:9092").1, "PLAINTEXT://:9092");
        assert_eq!(one(r"a\=b=c"), ("a=b".into(), "c".into()));
        assert_eq!(one(r"a\ b c"), ("a b".into(), "c".into()));
    }

    #[test]
    fn values_keep_trailing_blanks_and_inner_marks() {
        assert_eq!(one("a=b # c ").1, "b # c ");
        assert_eq!(one("a=b!c").1, "b!c");
    }

    #[test]
    fn comments_and_blank_lines_are_dropped_and_counted() {
        let text = "# one\n\n ! two\r\nx=1\r\n\r\ny=2\n#z=3";
        assert_eq!(pairs(text), [(4, "x".into(), "1".into()), (6, "y".into(), "2".into())]);
    }

    #[test]
    fn continuation_lines_join_without_their_indent() {
        let text = "hosts=a,\\\n   b,\\\r\n\tc\nnext=1";
        assert_eq!(
            pairs(text),
            [(1, "hosts".into(), "a,b,c".into()), (4, "next".into(), "1".into())]
        );
        // An even number of backslashes continues nothing; a comment mark inside one is text.
        assert_eq!(one("a=b\\\\").1, "b\\");
        assert_eq!(one("a=b\\\n#c").1, "b#c");
    }

    #[test]
    fn escapes() {
        assert_eq!(one(r"a=\t\n\r\f\\\q").1, "\t\n\r\x0c\\q");
        assert_eq!(one(r"a=\u00e4\ud83d\ude00x").1, "ä😀x");
        assert_eq!(parse(r"a=\u00g1").unwrap_err().line, 1);
        assert!(parse("x=1\na=\\ud83d").is_err());
        assert!(parse(r"a=\u12").is_err());
    }
}
