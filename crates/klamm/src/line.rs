//! Records as lines of text, both ways.

use bytes::Bytes;
use klamm_client::ConsumerRecord;
use klamm_protocol::records::{Header, Record};
use serde_json::{Map, Value, json};

/// A line of input as key and value. Without the separator in it, it is a value alone.
pub(crate) fn parse(line: &Bytes, key_separator: Option<&str>) -> (Option<Bytes>, Bytes) {
    let Some(separator) = key_separator else { return (None, line.clone()) };
    match find(line, separator.as_bytes()) {
        Some(at) => (Some(line.slice(..at)), line.slice(at + separator.len()..)),
        None => (None, line.clone()),
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// A record as a line for people: its value, with the key in front if a separator is given. Bytes
/// are written as they are.
pub(crate) fn format(record: &ConsumerRecord, key_separator: Option<&str>) -> Vec<u8> {
    let mut line = Vec::new();
    if let Some(separator) = key_separator {
        line.extend_from_slice(record.key.as_deref().unwrap_or_default());
        line.extend_from_slice(separator.as_bytes());
    }
    line.extend_from_slice(record.value.as_deref().unwrap_or_default());
    line.push(b'\n');
    line
}

/// A record as a line for programs. What is not UTF-8 stands in base64 under a name of its own.
pub(crate) fn format_json(record: &ConsumerRecord) -> Vec<u8> {
    let mut object = content(&record.key, &record.value, &record.headers);
    object.insert("topic".to_owned(), json!(&*record.topic));
    object.insert("partition".to_owned(), json!(record.partition));
    object.insert("offset".to_owned(), json!(record.offset));
    object.insert("timestamp".to_owned(), json!(record.timestamp));
    let mut line = Value::Object(object).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// A stored record for programs, in the form of [`format_json`].
pub(crate) fn record_json(record: &Record) -> Value {
    let mut object = content(&record.key, &record.value, &record.headers);
    object.insert("kind".to_owned(), json!("record"));
    object.insert("offset".to_owned(), json!(record.offset));
    object.insert("timestamp".to_owned(), json!(record.timestamp));
    Value::Object(object)
}

fn content(key: &Option<Bytes>, value: &Option<Bytes>, headers: &[Header]) -> Map<String, Value> {
    let mut object = Map::new();
    insert_bytes(&mut object, "key", key.as_ref());
    insert_bytes(&mut object, "value", value.as_ref());
    let headers = headers.iter().map(|header| {
        let mut object = Map::new();
        insert_bytes(&mut object, "key", Some(&header.key));
        insert_bytes(&mut object, "value", header.value.as_ref());
        Value::Object(object)
    });
    object.insert("headers".to_owned(), headers.collect());
    object
}

fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), json!(text)),
        Some(Err(bytes)) => object.insert(format!("{name}_base64"), json!(base64(bytes))),
    };
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 0x3f;
            let is_padding = digit > chunk.len();
            text.push(if is_padding { '=' } else { char::from(BASE64[value as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn record(key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> ConsumerRecord {
        ConsumerRecord {
            topic: Arc::from("t"),
            partition: 1,
            offset: 2,
            timestamp: 3,
            key: key.map(Bytes::from_static),
            value: value.map(Bytes::from_static),
            headers: vec![Header { key: "h".into(), value: None }],
            leader_epoch: 0,
        }
    }

    #[test]
    fn a_line_is_a_value_or_a_key_and_a_value() {
        let parse = |line: &'static str, separator| parse(&Bytes::from(line), separator);
        assert_eq!(parse("a:b", None), (None, "a:b".into()));
        assert_eq!(parse("a:b:c", Some(":")), (Some("a".into()), "b:c".into()));
        assert_eq!(parse("abc", Some(":")), (None, "abc".into()));
        assert_eq!(parse("k => v", Some(" => ")), (Some("k".into()), "v".into()));
        assert_eq!(parse(":", Some(":")), (Some("".into()), "".into()));
        assert_eq!(parse("", Some(":")), (None, "".into()));
    }

    #[test]
    fn a_record_is_its_value_and_on_request_its_key() {
        let record = record(Some(b"k"), Some(b"\xffv"));
        assert_eq!(format(&record, None), b"\xffv\n");
        assert_eq!(format(&record, Some(": ")), b"k: \xffv\n");
    }

    #[test]
    fn json_tells_null_text_and_bytes_apart() {
        let line = format_json(&record(None, Some(b"\xff\x00")));
        let expected = r#"{"headers":[{"key":"h","value":null}],"key":null,"offset":2,"partition":1,"timestamp":3,"topic":"t","value_base64":"/wA="}"#;
        assert_eq!(String::from_utf8(line).expect("JSON is text"), format!("{expected}\n"));
        let line = format_json(&record(Some(b"k"), Some(b"\"v\"")));
        let value: Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!((&value["key"], &value["value"]), (&json!("k"), &json!("\"v\"")));
    }

    #[test]
    fn base64_pads_to_fours() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
