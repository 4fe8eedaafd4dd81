//! Random messages on the wire, from the schemas alone.

use super::schema::{self, Field, Kind, Message, Schema, Struct, Type};

/// A small generator with a seed that a failing test prints.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// Any number, edges more often than chance would have them.
    fn integer(&mut self) -> i64 {
        const EDGES: [i64; 5] = [0, 1, -1, i64::MAX, i64::MIN];
        if self.one_in(3) { EDGES[self.below(EDGES.len())] } else { self.next() as i64 }
    }
}

/// All schemas of the crate.
#[expect(clippy::disallowed_methods, reason = "a test reads the crate's own files")]
pub(crate) fn schemas() -> Vec<Schema> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");
    let mut schemas: Vec<Schema> = std::fs::read_dir(dir)
        .expect("the schemas")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("text");
            schema::parse(&module, &text).expect("a schema")
        })
        .collect();
    schemas.sort_by(|a, b| a.module.cmp(&b.module));
    schemas
}

/// All messages with each of their versions.
pub(crate) fn messages_and_versions() -> Vec<(Message, i16)> {
    schemas()
        .into_iter()
        .flat_map(|schema| schema.messages)
        .flat_map(|m| (m.versions.min..=m.versions.max).map(move |v| (m.clone(), v)))
        .collect()
}

/// A random message in `version`'s form, as any encoder would write it.
pub(crate) fn message(random: &mut Random, message: &Message, version: i16) -> Vec<u8> {
    let flexible = message.flexible_from.is_some_and(|from| version >= from);
    let mut encoder = Encoder { random: Some(random), message, version, flexible, out: Vec::new() };
    encoder.structure(&message.structs[0]);
    encoder.out
}

/// Without `random` it writes defaults.
struct Encoder<'a> {
    random: Option<&'a mut Random>,
    message: &'a Message,
    version: i16,
    flexible: bool,
    out: Vec<u8>,
}

impl Encoder<'_> {
    fn structure(&mut self, structure: &Struct) {
        let contains = |field: &&Field| {
            field.versions.min <= self.version && self.version <= field.versions.max
        };
        let fields: Vec<&Field> = structure.fields.iter().filter(contains).collect();
        for field in fields.iter().filter(|f| f.tag.is_none()) {
            self.field(field);
        }
        if self.flexible {
            let tagged = fields.iter().filter_map(|f| Some((f.tag?, self.tagged(f)?)));
            let mut tagged: Vec<(u32, Vec<u8>)> = tagged.collect();
            tagged.sort();
            self.varint(tagged.len() as u32);
            for (tag, value) in tagged {
                self.varint(tag);
                self.varint(value.len() as u32);
                self.out.extend(value);
            }
        }
    }

    /// The field's bytes, if it is drawn and differs from the default (which is never written).
    fn tagged(&mut self, field: &Field) -> Option<Vec<u8>> {
        let start = self.out.len();
        if self.random.as_deref_mut()?.one_in(2) {
            return None;
        }
        self.field(field);
        let value = self.out.split_off(start);
        let random = self.random.take();
        self.field(field);
        let default = self.out.split_off(start);
        self.random = random;
        (value != default).then_some(value)
    }

    fn field(&mut self, field: &Field) {
        let flexible = self.flexible;
        self.flexible &= !field.fixed;
        let nullable =
            field.nullable.is_some_and(|n| n.min <= self.version && self.version <= n.max);
        let is_sliced = field.ty == Type::Records && self.message.kind == Kind::Response;
        let null = match self.random.as_deref_mut() {
            Some(random) => random.one_in(3),
            None => field.default.as_deref() == Some("null"),
        };
        if nullable && null && !is_sliced {
            self.null(&field.ty);
        } else {
            if nullable && matches!(field.ty, Type::Struct(_)) {
                self.out.push(1);
            }
            let default = field.default.as_deref().and_then(|d| d.parse().ok());
            self.value(&field.ty, default.unwrap_or(0));
        }
        self.flexible = flexible;
    }

    fn null(&mut self, ty: &Type) {
        match ty {
            Type::Struct(_) => self.out.push(0xff),
            _ if self.flexible => self.varint(0),
            Type::String => self.out.extend((-1_i16).to_be_bytes()),
            _ => self.out.extend((-1_i32).to_be_bytes()),
        }
    }

    fn value(&mut self, ty: &Type, default: i64) {
        match ty {
            Type::Bool => {
                let value = self.random.as_deref_mut().map_or(0, |r| r.below(2));
                self.out.push(value as u8);
            }
            Type::Int8 => self.integer(1, default),
            Type::Int16 | Type::Uint16 => self.integer(2, default),
            Type::Int32 | Type::Uint32 => self.integer(4, default),
            Type::Int64 => self.integer(8, default),
            Type::Float64 => {
                let value = self.random.as_deref_mut().map_or(0, |r| r.below(1000));
                self.out.extend((value as f64 / 8.0).to_be_bytes());
            }
            Type::Uuid => {
                self.integer(8, 0);
                self.integer(8, 0);
            }
            Type::String => self.string(),
            Type::Bytes | Type::Records => self.bytes(),
            Type::Struct(name) => {
                let structure = self.message.find_struct(name).expect("described").clone();
                self.structure(&structure);
            }
            Type::Array(element) => {
                let count = self.random.as_deref_mut().map_or(0, |r| r.below(4));
                self.len_i32(count);
                for _ in 0..count {
                    self.value(element, 0);
                }
            }
        }
    }

    fn integer(&mut self, len: usize, default: i64) {
        let value = self.random.as_deref_mut().map_or(default, Random::integer);
        self.out.extend(&value.to_be_bytes()[8 - len..]);
    }

    fn string(&mut self) {
        const LETTERS: [&str; 6] = ["a", "Z", "-", "_", "ß", "語"];
        let mut text = String::new();
        if let Some(random) = self.random.as_deref_mut() {
            for _ in 0..random.below(9) {
                text += LETTERS[random.below(LETTERS.len())];
            }
        }
        if self.flexible {
            self.varint(text.len() as u32 + 1);
        } else {
            self.out.extend((text.len() as i16).to_be_bytes());
        }
        self.out.extend(text.bytes());
    }

    fn bytes(&mut self) {
        let mut bytes = Vec::new();
        if let Some(random) = self.random.as_deref_mut() {
            bytes = (0..random.below(200)).map(|_| random.next() as u8).collect();
        }
        self.len_i32(bytes.len());
        self.out.extend(bytes);
    }

    fn len_i32(&mut self, len: usize) {
        if self.flexible {
            self.varint(len as u32 + 1);
        } else {
            self.out.extend((len as i32).to_be_bytes());
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
