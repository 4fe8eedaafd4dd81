//! The notation of `crates/protocol/schemas/*.txt`.
//!
//! One file per API (request and response) or internal record. A message opens at the margin:
//!
//! ```text
//! request FetchRequest 4-18 flexible 12+ api 1
//!   cluster_id ?string 12+ tag 0 drop = null
//!   topics []FetchTopic
//!     topic string 4-12 drop
//!     partitions []int32
//! ```
//!
//! `request`, `response`, `data` or `struct` (a structure that several fields of the message above
//! name), the name, the versions described, the first flexible one. Below, two spaces a level, the
//! fields in wire order: name, type (`?` for one that can be null, `[]` for an array, a name with a
//! capital for a structure, whose fields follow one level deeper), then, each only where needed:
//!
//! - versions that have the field (all that have what encloses it otherwise): `7`, `4-12`, `12+`
//! - `null 7+`: versions in which it can be null, where these are fewer
//! - `tag 0`: it is a tagged field
//! - `drop`: a value may be lost in versions without the field; otherwise writing it is an error
//! - `fixed`: never in the flexible form
//! - `= -1`: its default, to the end of the line (zero, empty, false, not null otherwise)
//!
//! `#` starts a comment line.

use std::collections::BTreeMap;

/// An inclusive range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    /// Whether every version of `other` is one of these.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.min <= other.min && other.max <= self.max
    }

    fn parse(text: &str, newest: i16) -> Option<Self> {
        let (min, max) = match (text.strip_suffix('+'), text.split_once('-')) {
            (Some(min), _) => (min.parse().ok()?, newest),
            (None, Some((min, max))) => (min.parse().ok()?, max.parse().ok()?),
            (None, None) => (text.parse().ok()?, text.parse().ok()?),
        };
        (min <= max).then_some(Self { min, max })
    }
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    String,
    Uuid,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Self>),
}

impl Type {
    fn parse(text: &str) -> Option<Self> {
        if let Some(element) = text.strip_prefix("[]") {
            return Some(Self::Array(Box::new(Self::parse(element)?)));
        }
        Some(match text {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "uint16" => Self::Uint16,
            "int32" => Self::Int32,
            "uint32" => Self::Uint32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "string" => Self::String,
            "uuid" => Self::Uuid,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
                Self::Struct(name.to_owned())
            }
            _ => return None,
        })
    }

    /// The structure that it consists of, if any.
    pub(crate) fn structure(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.structure(),
            _ => None,
        }
    }
}

/// One field of a structure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) droppable: bool,
    pub(crate) fixed: bool,
    pub(crate) default: Option<String>,
}

/// A structure and the versions in which it can occur.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    Data,
}

/// A message: its structures, itself first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) flexible_from: Option<i16>,
    pub(crate) api: Option<i16>,
    pub(crate) structs: Vec<Struct>,
}

impl Message {
    pub(crate) fn find_struct(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|s| s.name == name)
    }
}

/// One schema file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schema {
    /// The file's name without its ending: the Rust module.
    pub(crate) module: String,
    pub(crate) messages: Vec<Message>,
}

/// Reads a schema file; an error names the line.
pub(crate) fn parse(module: &str, text: &str) -> Result<Schema, String> {
    let mut parser = Parser { messages: Vec::new(), open: Vec::new() };
    for (nth, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        parser.line(line).map_err(|e| format!("{module}.txt:{}: {e}: {line:?}", nth + 1))?;
    }
    let schema = Schema { module: module.to_owned(), messages: parser.messages };
    check(&schema).map_err(|e| format!("{module}.txt: {e}"))?;
    Ok(schema)
}

/// Structures that are being filled: index in the message, and the versions of its fields.
type Open = (usize, Versions);

struct Parser {
    messages: Vec<Message>,
    open: Vec<Open>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let indent = line.len() - line.trim_start().len();
        if !indent.is_multiple_of(2) {
            return Err("odd indentation".into());
        }
        match indent / 2 {
            0 => self.head(line),
            depth => self.field(depth, line.trim()),
        }
    }

    fn head(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace();
        let kind = match words.next() {
            Some("request") => Kind::Request,
            Some("response") => Kind::Response,
            Some("data") => Kind::Data,
            Some("struct") => return self.shared_struct(words.next().ok_or("no name")?),
            _ => return Err("request, response, data or struct expected".into()),
        };
        let name = words.next().ok_or("no name")?.to_owned();
        let versions = words.next().and_then(|v| Versions::parse(v, 0)).ok_or("no versions")?;
        let (mut flexible_from, mut api) = (None, None);
        while let Some(word) = words.next() {
            let value = words.next().ok_or("a value is missing")?;
            match word {
                "flexible" => {
                    let from = Versions::parse(value, versions.max).ok_or("bad versions")?;
                    flexible_from = Some(from.min);
                }
                "api" => api = Some(value.parse().map_err(|_| "bad API number")?),
                _ => return Err(format!("unknown word {word}")),
            }
        }
        let top = Struct { name: name.clone(), versions, fields: Vec::new() };
        let message = Message { kind, name, versions, flexible_from, api, structs: vec![top] };
        self.messages.push(message);
        self.open = vec![(0, versions)];
        Ok(())
    }

    fn shared_struct(&mut self, name: &str) -> Result<(), String> {
        let message = self.messages.last_mut().ok_or("a struct before any message")?;
        let versions = message.versions;
        let at = message.structs.iter().position(|s| s.name == name).unwrap_or_else(|| {
            message.structs.push(Struct { name: name.to_owned(), versions, fields: Vec::new() });
            message.structs.len() - 1
        });
        message.structs[at].versions = versions;
        self.open = vec![(at, versions)];
        Ok(())
    }

    fn field(&mut self, depth: usize, line: &str) -> Result<(), String> {
        if depth > self.open.len() {
            return Err("nothing that this could be part of".into());
        }
        self.open.truncate(depth);
        let (owner, enclosing) = self.open[depth - 1];
        let message = self.messages.last_mut().ok_or("a field before any message")?;
        let field = parse_field(line, enclosing)?;
        if let Some(name) = field.ty.structure()
            && message.find_struct(name).is_none()
        {
            let versions = field.versions;
            message.structs.push(Struct { name: name.to_owned(), versions, fields: Vec::new() });
            self.open.push((message.structs.len() - 1, versions));
        }
        message.structs[owner].fields.push(field);
        Ok(())
    }
}

fn parse_field(line: &str, enclosing: Versions) -> Result<Field, String> {
    let (line, default) = match line.split_once(" = ") {
        Some((line, default)) => (line, Some(default.to_owned())),
        None => (line, None),
    };
    let mut words = line.split_whitespace().peekable();
    let name = words.next().ok_or("no name")?.to_owned();
    let ty = words.next().ok_or("no type")?;
    let (ty, can_be_null) = match ty.strip_prefix('?') {
        Some(ty) => (ty, true),
        None => (ty, false),
    };
    let ty = Type::parse(ty).ok_or_else(|| format!("unknown type {ty}"))?;
    let mut versions = enclosing;
    if let Some(word) = words.peek()
        && word.starts_with(|c: char| c.is_ascii_digit())
    {
        versions = Versions::parse(word, enclosing.max).ok_or("bad versions")?;
        words.next();
    }
    let nullable = can_be_null.then_some(versions);
    let mut field =
        Field { name, ty, versions, nullable, tag: None, droppable: false, fixed: false, default };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word {
            "drop" => field.droppable = true,
            "fixed" => field.fixed = true,
            "tag" => field.tag = Some(value()?.parse().map_err(|_| "bad tag")?),
            "null" if can_be_null => {
                let range = Versions::parse(value()?, enclosing.max).ok_or("bad versions")?;
                field.nullable = Some(range);
            }
            _ => return Err(format!("unexpected {word}")),
        }
    }
    Ok(field)
}

/// What a single line cannot show to be wrong.
fn check(schema: &Schema) -> Result<(), String> {
    let mut seen: BTreeMap<&str, &Struct> = BTreeMap::new();
    for message in &schema.messages {
        for structure in &message.structs {
            let name = structure.name.as_str();
            if structure.fields.is_empty() && name != message.name {
                return Err(format!("{name} has no fields"));
            }
            if seen.insert(name, structure).is_some() {
                return Err(format!("two structures are called {name}"));
            }
            for field in &structure.fields {
                check_field(message, structure, field)
                    .map_err(|e| format!("{name}.{}: {e}", field.name))?;
            }
        }
    }
    Ok(())
}

fn check_field(message: &Message, structure: &Struct, field: &Field) -> Result<(), String> {
    if !structure.versions.covers(field.versions) {
        return Err("in more versions than what encloses it".into());
    }
    let flexible = |v| message.flexible_from.is_some_and(|from| v >= from);
    if field.tag.is_some() && !flexible(field.versions.min) {
        return Err("tagged, but not flexible in all its versions".into());
    }
    if field.default.as_deref() == Some("null") && field.nullable.is_none() {
        return Err("null by default, but never null".into());
    }
    Ok(())
}
