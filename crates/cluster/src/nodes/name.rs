//! Names and ids as parts of a path.

use std::fmt::Write as _;

use uuid::Uuid;

/// The name that stands for the defaults of all entities of a kind, as in Kafka.
pub const DEFAULT: &str = "<default>";

/// A name as one part of a path: what Kafka allows in a topic's name stays as it is, everything else
/// is percent-encoded, and so are the names `.` and `..`.
pub fn escape(name: &str) -> String {
    if name == "." || name == ".." {
        return name.replace('.', "%2E");
    }
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("strings take everything");
        }
    }
    text
}

/// The inverse of [`escape`]; `None` for what it never writes.
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok().filter(|name| escape(name) == text)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Characters of an id in Kafka's form.
const ID_CHARS: usize = 22;

/// An id in Kafka's form: 22 characters of URL-safe base64.
pub fn uuid_to_text(id: Uuid) -> String {
    let bits = id.as_u128();
    (0..ID_CHARS)
        .map(|n| {
            // 128 bits fill 21 characters and two bits of the last one.
            let sextet = if n == ID_CHARS - 1 { bits << 4 } else { bits >> (122 - 6 * n) };
            char::from(ALPHABET[(sextet & 63) as usize])
        })
        .collect()
}

/// The inverse of [`uuid_to_text`].
pub fn uuid_from_text(text: &str) -> Option<Uuid> {
    if text.len() != ID_CHARS {
        return None;
    }
    let mut bits: u128 = 0;
    for (n, char) in text.bytes().enumerate() {
        let sextet = ALPHABET.iter().position(|known| *known == char)? as u128;
        if n == ID_CHARS - 1 {
            if sextet & 15 != 0 {
                return None;
            }
            bits = (bits << 2) | (sextet >> 4);
        } else {
            bits = (bits << 6) | sextet;
        }
    }
    Some(Uuid::from_u128(bits))
}

/// An id in its text form inside JSON.
pub(crate) mod uuid_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use uuid::Uuid;

    pub(crate) fn serialize<S: Serializer>(id: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::uuid_to_text(*id))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(from)?;
        super::uuid_from_text(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no id")))
    }
}

/// A broker or nobody, as Kafka writes it: -1 is nobody.
pub(crate) mod id_or_none {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the form that serde asks for")]
    pub(crate) fn serialize<S: Serializer>(id: &Option<i32>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i32(id.unwrap_or(-1))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i32>, D::Error> {
        Ok(Some(i32::deserialize(from)?).filter(|id| *id >= 0))
    }
}
