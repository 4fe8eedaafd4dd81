//! Rust for one field: its type, its default, reading it, writing it.

use super::schema::{Field, Kind, Message, Struct, Type, Versions};

/// The condition that `version` is in `range`, given that it is in `known`; `None` when certain.
pub(crate) fn condition(range: Versions, known: Versions) -> Option<String> {
    let (min, max) = (range.min, range.max);
    if range.covers(known) {
        None
    } else if min == max {
        Some(format!("version == {min}"))
    } else if max >= known.max {
        Some(format!("version >= {min}"))
    } else if min <= known.min {
        Some(format!("version <= {max}"))
    } else {
        Some(format!("({min}..={max}).contains(&version)"))
    }
}

/// The opposite of a condition that [`condition`] or [`Context::is_default`] gave.
pub(crate) fn negated(condition: &str) -> String {
    const OPPOSITES: &[(&str, &str)] = &[(" == ", " != "), (" >= ", " < "), (" <= ", " > ")];
    for (operator, opposite) in OPPOSITES {
        if let Some((left, right)) = condition.split_once(operator) {
            return format!("{left}{opposite}{right}");
        }
    }
    match (condition.strip_suffix(".is_none()"), condition.strip_prefix('!')) {
        (Some(value), _) => format!("{value}.is_some()"),
        (_, Some(positive)) => positive.to_owned(),
        _ => format!("!{condition}"),
    }
}

/// The words in which one structure's code speaks of versions.
pub(crate) struct Context<'a> {
    pub(crate) message: &'a Message,
    pub(crate) structure: &'a Struct,
}

impl Context<'_> {
    /// Whether `version` is flexible: a constant where all of the structure's versions agree.
    pub(crate) fn flexible(&self) -> &'static str {
        let versions = self.structure.versions;
        match self.message.flexible_from {
            None => "false",
            Some(from) if from > versions.max => "false",
            Some(from) if from <= versions.min => "true",
            Some(_) => "flexible",
        }
    }

    /// The structure's versions in the flexible form, if any.
    pub(crate) fn flexible_versions(&self) -> Option<Versions> {
        let Versions { min, max } = self.structure.versions;
        let min = min.max(self.message.flexible_from?);
        (min <= max).then_some(Versions { min, max })
    }

    fn form(&self, field: &Field) -> &'static str {
        if field.fixed {
            "false"
        } else if field.tag.is_some() {
            "true"
        } else {
            self.flexible()
        }
    }

    /// The field's Rust type.
    pub(crate) fn rust_type(&self, field: &Field) -> String {
        let ty = self.plain_type(&field.ty);
        if self.is_option(field) { format!("Option<{ty}>") } else { ty }
    }

    /// Records of a response are never null for us: null reads as empty and empty is written.
    fn is_option(&self, field: &Field) -> bool {
        field.nullable.is_some() && !self.is_sliced(&field.ty)
    }

    /// Whether the field's bytes may come from a file.
    fn is_sliced(&self, ty: &Type) -> bool {
        *ty == Type::Records && self.message.kind == Kind::Response
    }

    fn plain_type(&self, ty: &Type) -> String {
        match ty {
            Type::Bool => "bool".into(),
            Type::Int8 => "i8".into(),
            Type::Int16 => "i16".into(),
            Type::Uint16 => "u16".into(),
            Type::Int32 => "i32".into(),
            Type::Uint32 => "u32".into(),
            Type::Int64 => "i64".into(),
            Type::Float64 => "f64".into(),
            Type::String => "String".into(),
            Type::Uuid => "Uuid".into(),
            Type::Records if self.is_sliced(ty) => "Records".into(),
            Type::Bytes | Type::Records => "Bytes".into(),
            Type::Struct(name) => name.clone(),
            Type::Array(element) => format!("Vec<{}>", self.plain_type(element)),
        }
    }

    /// The field's default as an expression, and whether it is Rust's own for the type.
    pub(crate) fn default_value(&self, field: &Field) -> (String, bool) {
        let default = field.default.as_deref();
        if self.is_option(field) {
            let no_records = field.ty == Type::Records && default.is_none();
            if default == Some("null") || no_records {
                return ("None".into(), true);
            }
            return (format!("Some({})", self.plain_default(field).0), false);
        }
        self.plain_default(field)
    }

    fn plain_default(&self, field: &Field) -> (String, bool) {
        if let Some(default) = field.default.as_deref()
            && default != "null"
        {
            let value = match field.ty {
                Type::String => format!("{default:?}.to_owned()"),
                _ => default.to_owned(),
            };
            return (value, false);
        }
        let value = match &field.ty {
            Type::Bool => "false".into(),
            Type::Float64 => "0.0".into(),
            Type::String => "String::new()".into(),
            Type::Uuid => "Uuid::nil()".into(),
            Type::Records if self.is_sliced(&field.ty) => "Records::default()".into(),
            Type::Bytes | Type::Records => "Bytes::new()".into(),
            Type::Array(_) => "Vec::new()".into(),
            Type::Struct(name) => format!("{name}::default()"),
            _ => "0".into(),
        };
        (value, true)
    }

    /// The condition that the field has its default.
    pub(crate) fn is_default(&self, field: &Field) -> String {
        let value = format!("self.{}", rust_name(&field.name));
        let (default, _) = self.default_value(field);
        match (self.is_option(field), &field.ty) {
            (true, _) if default == "None" => format!("{value}.is_none()"),
            (true, Type::String) if field.default.is_none() => {
                format!("{value}.as_ref().is_some_and(String::is_empty)")
            }
            (true, Type::Bytes) => format!("{value}.as_ref().is_some_and(Bytes::is_empty)"),
            (true, Type::Array(_)) => format!("{value}.as_ref().is_some_and(Vec::is_empty)"),
            (true, _) => format!("{value} == {default}"),
            (false, Type::Bool) if default == "false" => format!("!{value}"),
            (false, Type::Bool) => value,
            (false, Type::Uuid) => format!("{value}.is_nil()"),
            (false, Type::String) if field.default.is_none() => format!("{value}.is_empty()"),
            (false, Type::Bytes | Type::Records | Type::Array(_)) => format!("{value}.is_empty()"),
            (false, Type::String) => {
                format!("{value} == {:?}", field.default.as_deref().unwrap_or_default())
            }
            (false, _) => format!("{value} == {default}"),
        }
    }

    /// The fewest bytes that a value takes in any version of the structure.
    fn wire_len_min(&self, ty: &Type) -> usize {
        let flexible = self.flexible() != "false";
        match ty {
            Type::Bool | Type::Int8 => 1,
            Type::Int16 | Type::Uint16 => 2,
            Type::Int32 | Type::Uint32 => 4,
            Type::Int64 | Type::Float64 => 8,
            Type::Uuid => 16,
            Type::String => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Type::Bytes | Type::Records | Type::Array(_) => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Type::Struct(name) => {
                let structure = self.message.find_struct(name).expect("checked by the parser");
                Self { message: self.message, structure }.struct_wire_len_min()
            }
        }
    }

    /// The fewest bytes that the structure takes in any of its versions.
    pub(crate) fn struct_wire_len_min(&self) -> usize {
        let always =
            |field: &&Field| field.tag.is_none() && field.versions.covers(self.structure.versions);
        let len = |field: &Field| match (&field.ty, field.nullable) {
            (Type::Struct(_), Some(_)) => 1,
            (ty, _) => self.wire_len_min(ty),
        };
        let fields: usize = self.structure.fields.iter().filter(always).map(len).sum();
        let tagged = usize::from(self.flexible() == "true");
        (fields + tagged).max(1)
    }

    /// An expression that reads the field.
    pub(crate) fn read(&self, field: &Field) -> String {
        if self.is_sliced(&field.ty) {
            let form = self.form(field);
            return format!("Records::Inline(r.nullable_bytes({form})?.unwrap_or_default())");
        }
        let Some(nullable) = field.nullable else {
            return self.read_plain(field, "");
        };
        let null = self.read_plain(field, "nullable_");
        match condition(nullable, field.versions) {
            None => null,
            Some(when) => {
                let plain = self.read_plain(field, "");
                format!("if {when} {{ {null} }} else {{ Some({plain}) }}")
            }
        }
    }

    fn read_plain(&self, field: &Field, null: &str) -> String {
        let form = self.form(field);
        match &field.ty {
            Type::String => format!("r.{null}string({form})?"),
            Type::Bytes | Type::Records => format!("r.{null}bytes({form})?"),
            Type::Struct(_) if null.is_empty() => "Decode::decode(r, version)?".into(),
            Type::Struct(_) => "r.nullable_struct(version)?".into(),
            Type::Array(element) => match element.as_ref() {
                Type::Struct(_) => format!("r.{null}structs({form}, version)?"),
                Type::String => format!(
                    "r.{null}array({form}, {}, |r| r.string({form}))?",
                    self.wire_len_min(element)
                ),
                primitive => format!(
                    "r.{null}array({form}, {}, Reader::{})?",
                    self.wire_len_min(element),
                    method(primitive)
                ),
            },
            primitive => format!("r.{}()?", method(primitive)),
        }
    }

    /// A statement that writes the field (ending in `;`).
    pub(crate) fn write(&self, field: &Field) -> String {
        let (call, can_fail) = self.write_call(field);
        if can_fail { format!("{call}?;") } else { format!("{call};") }
    }

    /// The body of a closure that writes the field and answers a `Result`.
    pub(crate) fn write_result(&self, field: &Field) -> String {
        let (call, can_fail) = self.write_call(field);
        if can_fail { call } else { format!("{{ {call}; Ok(()) }}") }
    }

    fn write_call(&self, field: &Field) -> (String, bool) {
        let value = format!("self.{}", rust_name(&field.name));
        let form = self.form(field);
        if self.is_sliced(&field.ty) {
            return (format!("w.records(&{value}, {form})"), true);
        }
        let Some(nullable) = field.nullable else {
            return self.write_plain(field, &value, &format!("&{value}"));
        };
        let null = match &field.ty {
            Type::String => format!("w.nullable_string({value}.as_deref(), {form})"),
            Type::Bytes | Type::Records => {
                format!("w.nullable_bytes({value}.as_deref(), {form})")
            }
            Type::Struct(_) => format!("w.nullable_struct({value}.as_ref(), version)"),
            Type::Array(element) => match element.as_ref() {
                Type::Struct(_) => {
                    format!("w.nullable_structs({value}.as_deref(), {form}, version)")
                }
                element => {
                    let write = write_element(element, form);
                    format!("w.nullable_array({value}.as_deref(), {form}, {write})")
                }
            },
            other => unreachable!("{other:?} cannot be null"),
        };
        let Some(when) = condition(nullable, field.versions) else {
            return (null, true);
        };
        let name = format!("{}.{}", self.structure.name, field.name);
        let get = if matches!(field.ty, Type::Struct(_)) { "as_ref" } else { "as_deref" };
        let checked = format!("present({value}.{get}(), {name:?}, version)?");
        let (plain, can_fail) = self.write_plain(field, &checked, &checked);
        let plain = if can_fail { plain } else { format!("{{ {plain}; Ok(()) }}") };
        (format!("if {when} {{ {null}? }} else {{ {plain}? }}").replace("? }", "?; }"), false)
    }

    fn write_plain(&self, field: &Field, value: &str, reference: &str) -> (String, bool) {
        let form = self.form(field);
        match &field.ty {
            Type::String => (format!("w.string({reference}, {form})"), true),
            Type::Bytes | Type::Records => (format!("w.bytes({reference}, {form})"), true),
            Type::Struct(_) => (format!("{value}.encode(w, version)"), true),
            Type::Array(element) => match element.as_ref() {
                Type::Struct(_) => (format!("w.structs({reference}, {form}, version)"), true),
                element => {
                    let write = write_element(element, form);
                    (format!("w.array({reference}, {form}, {write})"), true)
                }
            },
            primitive => (format!("w.{}({value})", method(primitive)), false),
        }
    }
}

fn write_element(element: &Type, form: &str) -> String {
    match element {
        Type::String => format!("|w, x| w.string(x, {form})"),
        primitive => format!("|w, x| {{ w.{}(*x); Ok(()) }}", method(primitive)),
    }
}

/// The method of `Reader` and `Writer` for a type of fixed length.
fn method(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Uint16 => "u16",
        Type::Int32 => "i32",
        Type::Uint32 => "u32",
        Type::Int64 => "i64",
        Type::Float64 => "f64",
        Type::Uuid => "uuid",
        other => unreachable!("{other:?} has no fixed length"),
    }
}

/// A field's name, made legal where it is a keyword.
pub(crate) fn rust_name(name: &str) -> String {
    match name {
        "type" | "match" | "move" | "ref" | "use" | "where" => format!("r#{name}"),
        _ => name.to_owned(),
    }
}
