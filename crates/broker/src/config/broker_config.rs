//! The settings in force for a broker, and where each of them comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use klamm_cluster::tree::zookeeper::ConnectString;

use super::broker_keys::{BROKER_KEYS, BrokerValues};
use super::key::{Key, OffsetsStorage, Update};
use super::listeners::{Listener, listeners};
use super::topic_keys::TopicConfig;

/// Settings by key, as they were given.
pub type Settings = BTreeMap<String, String>;

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set for the topic.
    Topic = 1,
    /// Set for this broker while it ran.
    Broker = 2,
    /// Set for all brokers while they ran.
    AllBrokers = 3,
    /// From the file or the command line.
    Static = 4,
    /// The table.
    Default = 5,
}

/// A snapshot of a broker's settings; fields by [`BrokerValues`].
#[derive(Clone, PartialEq)]
pub struct BrokerConfig {
    values: BrokerValues,
    /// The listeners to open.
    pub endpoints: Vec<Listener>,
    this_broker: Settings,
    all_brokers: Settings,
    start: Settings,
}

/// The texts as they were given are left out: there may be passwords among them.
impl fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("BrokerConfig");
        shown.field("values", &self.values).field("endpoints", &self.endpoints);
        shown.finish_non_exhaustive()
    }
}

impl Deref for BrokerConfig {
    type Target = BrokerValues;

    fn deref(&self) -> &BrokerValues {
        &self.values
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig::from_start(Settings::new()).expect("the defaults fit together")
    }
}

impl BrokerConfig {
    /// From what was given at start: every value passed [`Key::canonical`].
    ///
    /// # Errors
    /// The key and a phrase, where values do not fit together.
    pub(crate) fn from_start(start: Settings) -> Result<BrokerConfig, (&'static str, String)> {
        let values = values_of(&[&start]);
        check_together(&values, &start)?;
        let endpoints = listeners(&values)?;
        Ok(BrokerConfig {
            values,
            endpoints,
            this_broker: Settings::new(),
            all_brokers: Settings::new(),
            start,
        })
    }

    /// The same start with other dynamic settings. What no longer passes the table, say after a
    /// change of version, is left out.
    #[must_use]
    pub fn with_dynamic(&self, all_brokers: &Settings, this_broker: &Settings) -> BrokerConfig {
        let kept = |settings: &Settings| -> Settings {
            let valid = |(name, value): &(&String, &String)| {
                find(name).is_some_and(|key| {
                    key.update != Update::ReadOnly && key.canonical(value).is_ok()
                })
            };
            settings.iter().filter(valid).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let (all_brokers, this_broker) = (kept(all_brokers), kept(this_broker));
        let values = values_of(&[&this_broker, &all_brokers, &self.start]);
        let endpoints = self.endpoints.clone();
        BrokerConfig { values, endpoints, this_broker, all_brokers, start: self.start.clone() }
    }

    /// The directories for logs.
    pub fn data_dirs(&self) -> Vec<String> {
        match &self.values.log_dirs {
            Some(dirs) if !dirs.is_empty() => dirs.clone(),
            _ => super::key::split_list(&self.values.log_dir)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }
    }

    /// `offsets.storage=zookeeper`.
    pub fn keeps_offsets_in_tree(&self) -> bool {
        self.values.offsets_storage == OffsetsStorage::ZooKeeper
    }

    /// Replicas of `__consumer_offsets` at its creation.
    pub fn offsets_topic_replicas(&self, registered_brokers: usize) -> i16 {
        if self.start.contains_key("offsets.topic.replication.factor") {
            return self.values.offsets_topic_replication_factor;
        }
        let brokers = i16::try_from(registered_brokers.max(1)).unwrap_or(i16::MAX);
        self.values.offsets_topic_replication_factor.min(brokers)
    }

    /// The settings in force for a topic with these of its own. What does not pass the table is
    /// left out.
    pub fn topic(&self, own: &Settings) -> TopicConfig {
        TopicConfig::from_texts(|key| {
            let own = own.get(key.name).and_then(|text| key.canonical(text).ok());
            own.unwrap_or_else(|| self.inherited(key))
        })
    }

    /// What a topic key is worth where the topic does not say, in canonical form.
    pub(crate) fn inherited(&self, key: &Key) -> String {
        for (name, factor) in key.synonyms {
            let Some(text) = self.text(name) else { continue };
            if *factor == 1 {
                return negative_is_forever(key, text);
            }
            let number: i64 = text.parse().unwrap_or(-1);
            let scaled = if number < 0 { -1 } else { number.saturating_mul(*factor) };
            return scaled.to_string();
        }
        key.default.expect("topic keys have defaults").to_owned()
    }

    /// The value in force of a broker key, in canonical form; `None` is null.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        if name == "broker.id" || name == "node.id" {
            return Some(self.values.broker_id.to_string());
        }
        let key = find(name)?;
        text_of(key, &[&self.this_broker, &self.all_brokers, &self.start])
    }

    /// Every place that gives `name` a value, strongest first.
    pub(crate) fn places(&self, name: &str) -> Vec<(Source, String)> {
        let layers = [
            (Source::Broker, &self.this_broker),
            (Source::AllBrokers, &self.all_brokers),
            (Source::Static, &self.start),
        ];
        let given = layers
            .into_iter()
            .filter_map(|(source, settings)| settings.get(name).map(|text| (source, text.clone())));
        let default = find(name).and_then(|key| key.default);
        given.chain(default.map(|text| (Source::Default, text.to_owned()))).collect()
    }

    /// The keys set for all brokers while they ran.
    pub(crate) fn set_for_all(&self) -> &Settings {
        &self.all_brokers
    }
}

/// The row of a broker key.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    BROKER_KEYS.iter().find(|key| key.name == name)
}

/// A negative `log.retention.ms` means for ever; the topic key writes that as -1.
fn negative_is_forever(key: &Key, text: String) -> String {
    if key.name == "retention.ms" && text.starts_with('-') { "-1".to_owned() } else { text }
}

fn text_of(key: &Key, layers: &[&Settings]) -> Option<String> {
    let given = layers.iter().find_map(|settings| settings.get(key.name));
    match given {
        Some(text) => Some(key.canonical(text).expect("checked when it was given")),
        None => key.default.map(|text| key.canonical(text).expect("the table's own default")),
    }
}

fn values_of(layers: &[&Settings]) -> BrokerValues {
    let mut values = BrokerValues::from_texts(|key| text_of(key, layers));
    if let Some(id) = values.node_id {
        values.broker_id = id;
    }
    values
}

/// What no single row can say.
fn check_together(values: &BrokerValues, start: &Settings) -> Result<(), (&'static str, String)> {
    if let (Some(node), Some(broker)) = (values.node_id, start.get("broker.id"))
        && broker.trim().parse() != Ok(node)
    {
        return Err(("broker.id", format!("is {} and node.id is {node}", broker.trim())));
    }
    if let Some(connect) = &values.zookeeper_connect
        && let Err(bad) = connect.parse::<ConnectString>()
    {
        return Err(("zookeeper.connect", format!("is refused: {bad}")));
    }
    super::zookeeper::check(values)?;
    if values.queued_max_request_bytes < i64::from(values.socket_request_max_bytes) {
        let problem = format!(
            "is {}, less than socket.request.max.bytes, {}",
            values.queued_max_request_bytes, values.socket_request_max_bytes
        );
        return Err(("queued.max.request.bytes", problem));
    }
    if values.group_max_session_timeout_ms < values.group_min_session_timeout_ms {
        let problem = format!(
            "is {}, less than group.min.session.timeout.ms, {}",
            values.group_max_session_timeout_ms, values.group_min_session_timeout_ms
        );
        return Err(("group.max.session.timeout.ms", problem));
    }
    if values.log_dirs.as_deref().unwrap_or_default().iter().any(|dir| dir.is_empty()) {
        return Err(("log.dirs", "has an empty name".to_owned()));
    }
    Ok(())
}
