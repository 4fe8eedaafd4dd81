//! Settings as DescribeConfigs shows them.

use super::broker_config::{BrokerConfig, Settings, Source};
use super::broker_keys::BROKER_KEYS;
use super::key::{Key, Kind, Update};
use super::topic_keys::TOPIC_KEYS;

/// One setting with all that can be said of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) value: Option<String>,
    pub(crate) source: Source,
    pub(crate) read_only: bool,
    pub(crate) kind: Kind,
    pub(crate) doc: &'static str,
    /// Every place that gives a value, strongest first.
    pub(crate) synonyms: Vec<Place>,
}

/// A place that gives a setting its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    /// None for a password.
    pub(crate) value: Option<String>,
    pub(crate) source: Source,
}

/// Every key of a topic with these settings of its own.
pub(crate) fn topic(broker: &BrokerConfig, own: &Settings) -> Vec<Described> {
    TOPIC_KEYS.iter().map(|key| topic_key(broker, own, key)).collect()
}

fn topic_key(broker: &BrokerConfig, own: &Settings, key: &'static Key) -> Described {
    let set = own.get(key.name).and_then(|text| key.canonical(text).ok());
    let value = set.clone().unwrap_or_else(|| broker.inherited(key));
    let mut synonyms = Vec::new();
    if set.is_some() {
        let place = Place { name: key.name, value: Some(value.clone()), source: Source::Topic };
        synonyms.push(place);
    }
    if let Some((first, _)) = key.synonyms.first() {
        synonyms.extend(broker_places(broker, first));
    }
    described(key, Some(value), false, synonyms)
}

/// Every key of the broker.
pub(crate) fn broker(config: &BrokerConfig) -> Vec<Described> {
    BROKER_KEYS
        .iter()
        .map(|key| {
            let read_only = key.update == Update::ReadOnly;
            let places = broker_places(config, key.name);
            described(key, config.text(key.name), read_only, places)
        })
        .collect()
}

/// What was set for all brokers while they ran.
pub(crate) fn all_brokers(config: &BrokerConfig) -> Vec<Described> {
    let set = config.set_for_all();
    BROKER_KEYS
        .iter()
        .filter_map(|key| {
            let value = set.get(key.name)?.clone();
            let shown = Some(value.clone());
            let place = Place { name: key.name, value: shown, source: Source::AllBrokers };
            Some(described(key, Some(value), false, vec![place]))
        })
        .collect()
}

fn described(
    key: &'static Key,
    mut value: Option<String>,
    read_only: bool,
    mut synonyms: Vec<Place>,
) -> Described {
    if key.kind == Kind::Password {
        value = None;
        synonyms.iter_mut().for_each(|place| place.value = None);
    }
    let source = synonyms.first().map_or(Source::Default, |place| place.source);
    Described { name: key.name, value, source, read_only, kind: key.kind, doc: key.doc, synonyms }
}

/// Keys of which only the first that is set counts, strongest first.
const CHAINS: &[&[&str]] = &[
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    &["log.roll.ms", "log.roll.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
];

/// As Kafka lists them: by source first, then along the chain, beginning where `name` itself has
/// a value.
fn broker_places(config: &BrokerConfig, name: &'static str) -> Vec<Place> {
    let alone = [name];
    let flush = ["log.flush.interval.ms", "log.flush.scheduler.interval.ms"];
    let chain: &[&'static str] = match CHAINS.iter().find(|chain| chain.contains(&name)) {
        Some(chain) => chain,
        None if name == flush[0] => &flush,
        None => &alone,
    };
    let mut places: Vec<Place> = chain
        .iter()
        .flat_map(|name| {
            let places = config.places(name).into_iter();
            places.map(|(source, value)| Place { name, value: Some(value), source })
        })
        .collect();
    places.sort_by_key(|place| place.source as i8);
    places.into_iter().skip_while(|place| place.name != name).collect()
}
