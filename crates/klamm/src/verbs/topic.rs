//! `klamm topic create|list|describe|delete`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use klamm_client::{Admin, ConfigEntry, NewTopic, OffsetSpec, ResourceKind, TopicPartition};
use klamm_env::Env;
use klamm_log::uuid_to_base64;
use serde_json::{Value, json};

use crate::cli::Connect;
use crate::failure::Outcome;
use crate::output::{self, Table, number_or_dash};

/// Kafka's number for a value that is the topic's own.
const TOPIC_CONFIG_SOURCE: i8 = 1;

#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Create a topic
    Create(Create),
    /// List the topics
    List(List),
    /// Show a topic's partitions and its own settings
    Describe(Describe),
    /// Delete topics with all their records
    Delete(Delete),
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The topic's name
    pub(crate) topic: String,
    /// Number of partitions [default: as the broker is configured]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: Option<i32>,
    /// Number of replicas of each partition [default: as the broker is configured]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    pub(crate) replication_factor: Option<i16>,
    /// A setting of the topic's own; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) config: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Show the cluster's own topics, too
    #[arg(long)]
    pub(crate) internal: bool,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// The topic's name
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// The topics' names
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not KEY=VALUE".to_owned()),
    }
}

pub(crate) async fn run(env: &Env, verb: Topic) -> Outcome {
    match verb {
        Topic::Create(verb) => create(env, verb).await,
        Topic::List(verb) => list(env, verb).await,
        Topic::Describe(verb) => describe(env, verb).await,
        Topic::Delete(verb) => delete(env, verb).await,
    }
}

async fn create(env: &Env, verb: Create) -> Outcome {
    let admin = Admin::new(verb.connect.cluster(env).await?);
    let topic = NewTopic {
        name: verb.topic,
        partitions: verb.partitions,
        replication_factor: verb.replication_factor,
        configs: verb.config.into_iter().collect(),
    };
    admin.create_topic(&topic).await?;
    let name = &topic.name;
    Ok(output::print(
        verb.connect.json,
        || json!({ "created": name }),
        || format!("created topic {name}\n"),
    )?)
}

async fn list(env: &Env, verb: List) -> Outcome {
    let admin = Admin::new(verb.connect.cluster(env).await?);
    let mut topics = admin.list_topics().await?;
    topics.retain(|topic| verb.internal || !topic.is_internal);
    let replicas =
        |topic: &klamm_client::Topic| topic.partitions.iter().map(|p| p.replicas.len()).max();
    let as_json = || {
        let topic = |topic: &klamm_client::Topic| {
            json!({
                "topic": topic.name,
                "partitions": topic.partitions.len(),
                "replication_factor": replicas(topic),
                "internal": topic.is_internal,
            })
        };
        topics.iter().map(topic).collect::<Value>()
    };
    let as_text = || {
        let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS"]);
        for topic in &topics {
            let partitions = topic.partitions.len().to_string();
            table.row(vec![topic.name.clone(), partitions, number_or_dash(replicas(topic))]);
        }
        table.format()
    };
    Ok(output::print(verb.connect.json, as_json, as_text)?)
}

/// A topic and where its partitions begin and end.
struct Described {
    topic: klamm_client::Topic,
    configs: Vec<ConfigEntry>,
    ends: BTreeMap<i32, (i64, i64)>,
}

async fn describe(env: &Env, verb: Describe) -> Outcome {
    let admin = Admin::new(verb.connect.cluster(env).await?);
    let topic = admin.describe_topic(&verb.topic).await?;
    let mut configs = admin.describe_configs(ResourceKind::Topic, &verb.topic).await?;
    configs.retain(|config| config.source == TOPIC_CONFIG_SOURCE);
    let ends = ends(&admin, &topic).await?;
    let described = Described { topic, configs, ends };
    Ok(output::print(verb.connect.json, || described.json(), || described.text())?)
}

/// First and next offset of each partition that has a leader.
async fn ends(
    admin: &Admin,
    topic: &klamm_client::Topic,
) -> klamm_client::Result<BTreeMap<i32, (i64, i64)>> {
    let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
    let partitions: Vec<_> =
        led.map(|partition| TopicPartition::new(&topic.name, partition.index)).collect();
    let wanted = |spec| partitions.iter().map(|partition| (partition.clone(), spec)).collect();
    let first = admin.list_offsets(&wanted(OffsetSpec::Earliest)).await?;
    let next = admin.list_offsets(&wanted(OffsetSpec::Latest)).await?;
    Ok(partitions
        .iter()
        .map(|partition| (partition.partition, (first[partition].offset, next[partition].offset)))
        .collect())
}

impl Described {
    fn json(&self) -> Value {
        let partition = |partition: &klamm_client::Partition| {
            let ends = self.ends.get(&partition.index);
            json!({
                "partition": partition.index,
                "leader": partition.leader,
                "leader_epoch": partition.leader_epoch,
                "replicas": partition.replicas,
                "isr": partition.isr,
                "offline": partition.offline,
                "first_offset": ends.map(|ends| ends.0),
                "next_offset": ends.map(|ends| ends.1),
            })
        };
        let configs: BTreeMap<_, _> =
            self.configs.iter().map(|config| (&config.name, &config.value)).collect();
        json!({
            "topic": self.topic.name,
            "id": uuid_to_base64(self.topic.id),
            "internal": self.topic.is_internal,
            "configs": configs,
            "partitions": self.topic.partitions.iter().map(partition).collect::<Value>(),
        })
    }

    fn text(&self) -> String {
        let topic = &self.topic;
        let mut text = format!("topic {}, id {}\n", topic.name, uuid_to_base64(topic.id));
        for config in &self.configs {
            let value = config.value.as_deref().unwrap_or("(hidden)");
            text.push_str(&format!("{}={value}\n", config.name));
        }
        let mut table =
            Table::new(&["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "FIRST", "NEXT"]);
        for partition in &topic.partitions {
            let ends = self.ends.get(&partition.index);
            table.row(vec![
                partition.index.to_string(),
                number_or_dash(partition.leader),
                ids(&partition.replicas),
                ids(&partition.isr),
                number_or_dash(ends.map(|ends| ends.0)),
                number_or_dash(ends.map(|ends| ends.1)),
            ]);
        }
        text + &table.format()
    }
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn delete(env: &Env, verb: Delete) -> Outcome {
    let admin = Admin::new(verb.connect.cluster(env).await?);
    for topic in &verb.topics {
        admin.delete_topic(topic).await?;
        output::print(
            verb.connect.json,
            || json!({ "deleted": topic }),
            || format!("deleted topic {topic}\n"),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use klamm_client::Partition;

    use super::*;

    fn described() -> Described {
        let partition = |index, leader| Partition {
            index,
            leader,
            leader_epoch: 3,
            replicas: vec![1, 2],
            isr: vec![1],
            offline: Vec::new(),
        };
        let config = ConfigEntry {
            name: "retention.ms".to_owned(),
            value: Some("1000".to_owned()),
            is_read_only: false,
            is_sensitive: false,
            source: TOPIC_CONFIG_SOURCE,
            documentation: None,
        };
        let topic = klamm_client::Topic {
            name: "orders".to_owned(),
            id: Default::default(),
            is_internal: false,
            partitions: vec![partition(0, Some(1)), partition(1, None)],
        };
        Described { topic, configs: vec![config], ends: BTreeMap::from([(0, (5, 105))]) }
    }

    #[test]
    fn people_see_a_topic_as_a_table() {
        let expected = "\
topic orders, id AAAAAAAAAAAAAAAAAAAAAA
retention.ms=1000
PARTITION  LEADER  REPLICAS  IN SYNC  FIRST  NEXT
        0       1  1,2             1      5   105
        1       -  1,2             1      -     -
";
        assert_eq!(described().text(), expected);
    }

    #[test]
    fn programs_see_a_topic_as_json() {
        let json = described().json();
        assert_eq!(json["configs"]["retention.ms"], "1000");
        assert_eq!(json["partitions"][0]["next_offset"], 105);
        assert_eq!(json["partitions"][1]["leader"], Value::Null);
    }
}
