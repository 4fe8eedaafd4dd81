//! Settings at start: a file, then the command line over it.

use thiserror::Error;

use super::broker_config::{BrokerConfig, Settings, find};
use super::kafka_keys::is_kafka_key;
use super::properties;

/// What [`load`] read.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: BrokerConfig,
    /// What people should know, one sentence each, to be logged once.
    pub reports: Vec<String>,
}

/// Why a broker cannot start with what it was given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A line that is not in Java's properties syntax.
    #[error("{file} line {line}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A value that its key does not take.
    #[error("{place}: {key}={value} is refused: {problem}")]
    Value {
        /// `FILE line N` or `--set`.
        place: String,
        /// The key.
        key: String,
        /// The value as given.
        value: String,
        /// What the key takes.
        problem: String,
    },
    /// Values that do not fit together.
    #[error("{key} {problem}")]
    Together {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// Reads `file` (its name and its text) and lays `set` over it.
///
/// # Errors
/// The first value that cannot be taken. Keys that Klamm does not implement or nobody knows are no
/// error; they are in [`Loaded::reports`].
pub fn load(file: Option<(&str, &str)>, set: &[(String, String)]) -> Result<Loaded, ConfigError> {
    let mut start = Settings::new();
    let (mut not_implemented, mut unknown) = (Vec::new(), Vec::new());
    for (place, name, value) in given(file, set)? {
        match find(&name) {
            Some(key) => {
                key.canonical(&value).map_err(|problem| ConfigError::Value {
                    place,
                    key: name.clone(),
                    value: value.clone(),
                    problem,
                })?;
                start.insert(name, value);
            }
            None if is_kafka_key(&name) => not_implemented.push(name),
            None => unknown.push(format!("{name} ({place})")),
        }
    }
    let config = BrokerConfig::from_start(start)
        .map_err(|(key, problem)| ConfigError::Together { key, problem })?;
    let reports = [
        sentence("known to Kafka, not implemented and therefore without effect", not_implemented),
        sentence("unknown and therefore without effect", unknown),
    ];
    Ok(Loaded { config, reports: reports.into_iter().flatten().collect() })
}

fn given(
    file: Option<(&str, &str)>,
    set: &[(String, String)],
) -> Result<Vec<(String, String, String)>, ConfigError> {
    let mut all = Vec::new();
    if let Some((name, text)) = file {
        let properties = properties::parse(text).map_err(|malformed| ConfigError::Malformed {
            file: name.to_owned(),
            line: malformed.line,
            reason: malformed.reason,
        })?;
        for property in properties {
            all.push((format!("{name} line {}", property.line), property.key, property.value));
        }
    }
    for (key, value) in set {
        all.push(("--set".to_owned(), key.clone(), value.clone()));
    }
    Ok(all)
}

fn sentence(what: &str, mut names: Vec<String>) -> Option<String> {
    names.sort();
    names.dedup();
    (!names.is_empty()).then(|| format!("settings {what}: {}", names.join(", ")))
}
