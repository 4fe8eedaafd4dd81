//! One row of the table, and what its values may be.

use std::fmt;

/// The type of a value; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`.
    Boolean = 1,
    /// Any text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// Floating point.
    Double = 6,
    /// Texts separated by commas.
    List = 7,
    /// Text that is shown to nobody.
    Password = 9,
}

impl Kind {
    /// The name in documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Int => "int",
            Kind::Short => "short",
            Kind::Long => "long",
            Kind::Double => "double",
            Kind::List => "list",
            Kind::Password => "password",
        }
    }
}

/// Which values of its type a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowed {
    /// All of them.
    Any,
    /// This number and more.
    AtLeast(i64),
    /// From the first to the second, both included.
    Between(i64, i64),
    /// As `Between`, or the third.
    BetweenOr(i64, i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words.
    EachOf(&'static [&'static str]),
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
    /// `address:count` for any number of IP addresses.
    AddressCounts,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Any => f.write_str("any"),
            Allowed::AtLeast(min) => write!(f, "at least {min}"),
            Allowed::Between(min, max) => write!(f, "{min} to {max}"),
            Allowed::BetweenOr(min, max, or) => write!(f, "{min} to {max}, or {or}"),
            Allowed::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Allowed::EachOf(words) => write!(f, "a list of {}", words.join(", ")),
            Allowed::ThrottledReplicas => f.write_str("*, or a list of partition:broker"),
            Allowed::AddressCounts => f.write_str("a list of address:count"),
        }
    }
}

/// Whether and for whom a running broker takes a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Only from the file or the command line, at start.
    ReadOnly,
    /// While running, for one broker.
    PerBroker,
    /// While running, for one broker or for all.
    ClusterWide,
}

/// Where a key or its default comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Kafka's name and Kafka's default.
    Kafka,
    /// Kafka's name; the default is Klamm's, for this reason.
    Default(&'static str),
    /// A key that Kafka does not have.
    Klamm,
}

/// A broker key that a topic key takes its default from, and the factor between their units.
pub type Synonym = (&'static str, i64);

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in files, tools and DescribeConfigs.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// The value where none is given; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Which values are taken.
    pub allowed: Allowed,
    /// Whether it changes while the broker runs; topic keys always do.
    pub update: Update,
    /// Whose key and default it is.
    pub origin: Origin,
    /// For topic keys: the broker keys that give the default, first one set wins.
    pub synonyms: &'static [Synonym],
    /// What it does.
    pub doc: &'static str,
}

impl Key {
    /// The value in the form in which it is shown, or what is wrong with it.
    ///
    /// # Errors
    /// A phrase that says what the key takes.
    pub fn canonical(&self, text: &str) -> Result<String, String> {
        let text = text.trim();
        let refused = || format!("{} takes {}", self.name, self.takes());
        match self.kind {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok("true".to_owned()),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok("false".to_owned()),
            Kind::Boolean => Err(refused()),
            Kind::Password => Ok(text.to_owned()),
            Kind::String => match self.allowed {
                Allowed::OneOf(words) if !words.contains(&text) => Err(refused()),
                Allowed::AddressCounts if !split_list(text).iter().all(|item| is_count(item)) => {
                    Err(refused())
                }
                _ => Ok(text.to_owned()),
            },
            Kind::Int | Kind::Short | Kind::Long => {
                let number = self.integer(text).ok_or_else(refused)?;
                Ok(number.to_string())
            }
            Kind::Double => self.double(text).ok_or_else(refused),
            Kind::List => {
                let items = split_list(text);
                if items.iter().all(|item| self.takes_item(item, items.len())) {
                    Ok(items.join(","))
                } else {
                    Err(refused())
                }
            }
        }
    }

    /// What the key takes, for people.
    pub fn takes(&self) -> String {
        let kind = match self.kind {
            Kind::Boolean => return "true or false".to_owned(),
            Kind::String | Kind::List if self.allowed != Allowed::Any => {
                return self.allowed.to_string();
            }
            Kind::String | Kind::Password => return "any text".to_owned(),
            Kind::List => return "a list separated by commas".to_owned(),
            Kind::Int => "a whole number of 32 bits",
            Kind::Short => "a whole number of 16 bits",
            Kind::Long => "a whole number of 64 bits",
            Kind::Double => "a number",
        };
        match self.allowed {
            Allowed::Any => kind.to_owned(),
            allowed => format!("{kind}, {allowed}"),
        }
    }

    fn integer(&self, text: &str) -> Option<i64> {
        let number: i64 = text.parse().ok()?;
        let fits = match self.kind {
            Kind::Int => i32::try_from(number).is_ok(),
            Kind::Short => i16::try_from(number).is_ok(),
            _ => true,
        };
        let within = match self.allowed {
            Allowed::AtLeast(min) => number >= min,
            Allowed::Between(min, max) => (min..=max).contains(&number),
            Allowed::BetweenOr(min, max, or) => (min..=max).contains(&number) || number == or,
            _ => true,
        };
        (fits && within).then_some(number)
    }

    fn double(&self, text: &str) -> Option<String> {
        let number: f64 = text.parse().ok()?;
        let within = match self.allowed {
            Allowed::Between(min, max) => number >= min as f64 && number <= max as f64,
            _ => true,
        };
        // Kafka shows a decimal point in every number, and a capital before an exponent.
        (number.is_finite() && within).then(|| format!("{number:?}").replace('e', "E"))
    }

    fn takes_item(&self, item: &str, of: usize) -> bool {
        match self.allowed {
            Allowed::EachOf(words) => words.contains(&item),
            Allowed::ThrottledReplicas => {
                (item == "*" && of == 1)
                    || item.split_once(':').is_some_and(|(partition, broker)| {
                        partition.trim().parse::<u32>().is_ok()
                            && broker.trim().parse::<u32>().is_ok()
                    })
            }
            _ => true,
        }
    }
}

/// Whether this is `address:count`.
fn is_count(item: &str) -> bool {
    item.rsplit_once(':').is_some_and(|(address, count)| {
        let address: Result<std::net::IpAddr, _> = address.trim_matches(['[', ']']).parse();
        address.is_ok() && count.parse::<u32>().is_ok()
    })
}

/// The items of a list as Kafka splits it: by commas, spaces around them dropped.
pub(crate) fn split_list(text: &str) -> Vec<&str> {
    let text = text.trim();
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

/// A typed field made from the canonical text of its key.
pub(crate) trait Field: Sized {
    /// `None` is Kafka's null.
    fn from_canonical(text: Option<&str>) -> Self;
}

macro_rules! parsed_fields {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            fn from_canonical(text: Option<&str>) -> Self {
                text.and_then(|text| text.parse().ok())
                    .expect("the table checked the value and has a default")
            }
        }
    )*};
}

parsed_fields!(bool, i16, i32, i64, f64, String);

/// A password; it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// What it is.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl Field for Password {
    fn from_canonical(text: Option<&str>) -> Self {
        Password(text.expect("a password has no default").to_owned())
    }
}

impl<T: Field> Field for Option<T> {
    fn from_canonical(text: Option<&str>) -> Self {
        text.map(|text| T::from_canonical(Some(text)))
    }
}

impl Field for Vec<String> {
    fn from_canonical(text: Option<&str>) -> Self {
        split_list(text.unwrap_or_default()).into_iter().map(str::to_owned).collect()
    }
}

macro_rules! word_fields {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// The words of the table.
            pub(crate) const WORDS: &[&str] = &[$($word,)*];
        }

        impl Field for $name {
            fn from_canonical(text: Option<&str>) -> Self {
                match text {
                    $(Some($word) => Self::$variant,)*
                    other => unreachable!("{other:?} passed the table"),
                }
            }
        }
    )*};
}

word_fields! {
    /// When an append with acks=all is acknowledged.
    FlushClass {
        /// When it is on stable storage of every in-sync replica.
        Acked = "acked",
        /// When every in-sync replica's operating system has it, as in Kafka.
        Os = "os",
    }
    /// What a broker does that may have been given up by the ensemble (R5).
    LostSession {
        /// It serves what is safe without it: acks=all, reads, followers.
        Serve = "serve",
        /// It serves no data.
        Fence = "fence",
    }
    /// How a broker says to the ensemble who it is.
    AuthScheme {
        /// ZooKeeper's own scheme: name and password as they are.
        Digest = "digest",
        /// SASL with DIGEST-MD5.
        Sasl = "sasl",
    }
    /// Where groups' committed offsets are kept.
    OffsetsStorage {
        /// In the replicated topic `__consumer_offsets`.
        Kafka = "kafka",
        /// In the coordination tree.
        ZooKeeper = "zookeeper",
    }
    /// How closely a produced batch is looked at.
    RecordValidation {
        /// Header, lengths and checksum.
        Header = "header",
        /// Every record too, as Kafka does.
        Full = "full",
    }
    /// Which time a record carries.
    TimestampType {
        /// The producer's.
        CreateTime = "CreateTime",
        /// That of its append.
        LogAppendTime = "LogAppendTime",
    }
    /// How batches are stored.
    CompressionType {
        /// Not compressed.
        Uncompressed = "uncompressed",
        /// By zstd.
        Zstd = "zstd",
        /// By lz4.
        Lz4 = "lz4",
        /// By snappy.
        Snappy = "snappy",
        /// By gzip.
        Gzip = "gzip",
        /// As the producer sent them.
        Producer = "producer",
    }
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted.
    pub delete: bool,
    /// The last record of each key is kept.
    pub compact: bool,
}

impl Field for CleanupPolicy {
    fn from_canonical(text: Option<&str>) -> Self {
        let words = split_list(text.unwrap_or_default());
        CleanupPolicy { delete: words.contains(&"delete"), compact: words.contains(&"compact") }
    }
}
