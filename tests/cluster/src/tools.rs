//! Kafka's own command-line tools: they must see the cluster as it is.

use std::collections::BTreeMap;

use tokio::process::Command;

use crate::network::BROKERS;
use crate::stage::{PARTITIONS, TOPIC};

/// `kafka-topics --describe` says of a partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) leader: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
}

/// What `kafka-topics --describe` says wrongly of a cluster that is whole, whose leaders are these.
pub(crate) async fn faults(
    java: &[String],
    bootstrap: &str,
    leaders: &BTreeMap<i32, i32>,
) -> Vec<String> {
    let mut faults = Vec::new();
    match describe(java, bootstrap, &["--topic", TOPIC]).await {
        Err(error) => faults.push(error),
        Ok(text) => {
            let described = parse(&text);
            let count = usize::try_from(PARTITIONS).expect("few");
            if described.len() != count {
                faults.push(format!("kafka-topics describes {described:?}"));
            }
            for (partition, mut said) in described {
                said.replicas.sort_unstable();
                said.isr.sort_unstable();
                let is = Described {
                    leader: leaders.get(&partition).copied().unwrap_or(-1),
                    replicas: BROKERS.to_vec(),
                    isr: BROKERS.to_vec(),
                };
                if said != is {
                    faults.push(format!("kafka-topics says of partition {partition}: {said:?}"));
                }
            }
        }
    }
    match describe(java, bootstrap, &["--under-replicated-partitions"]).await {
        Ok(text) if text.trim().is_empty() => {}
        other => faults.push(format!("kafka-topics finds partitions under-replicated: {other:?}")),
    }
    faults
}

/// The partitions of a topic, as `kafka-topics --describe` says.
pub(crate) async fn described(
    command: &[String],
    bootstrap: &str,
    topic: &str,
) -> Result<BTreeMap<i32, Described>, String> {
    Ok(parse(&describe(command, bootstrap, &["--topic", topic]).await?))
}

async fn describe(command: &[String], bootstrap: &str, what: &[&str]) -> Result<String, String> {
    let words = [&["--describe"], what].concat();
    java(command, "org.apache.kafka.tools.TopicCommand", bootstrap, &words).await
}

/// Runs one of Kafka's tools; answers what it says.
pub(crate) async fn java(
    command: &[String],
    class: &str,
    bootstrap: &str,
    words: &[&str],
) -> Result<String, String> {
    let said = Command::new(&command[0])
        .args(&command[1..])
        .args([class, "--bootstrap-server", bootstrap])
        .args(words)
        .output()
        .await
        .map_err(|error| format!("{}: {error}", command[0]))?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    if said.status.success() {
        Ok(text)
    } else {
        Err(format!("{class} {words:?}: {text}{}", String::from_utf8_lossy(&said.stderr)))
    }
}

/// The lines about partitions: fields with tabs between them, a name before each colon.
fn parse(text: &str) -> BTreeMap<i32, Described> {
    let mut described = BTreeMap::new();
    for line in text.lines() {
        let fields: BTreeMap<&str, &str> = line
            .split('\t')
            .filter_map(|field| field.split_once(':'))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok());
        let numbers = |name: &str| {
            let list = fields.get(name).copied().unwrap_or_default();
            list.split(',').filter_map(|id| id.trim().parse().ok()).collect()
        };
        if let Some(partition) = number("Partition") {
            let leader = number("Leader").unwrap_or(-1);
            let (replicas, isr) = (numbers("Replicas"), numbers("Isr"));
            described.insert(partition, Described { leader, replicas, isr });
        }
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_partitions_are_understood() {
        let text = "Topic: load\tTopicId: x\tPartitionCount: 1\tReplicationFactor: 3\tConfigs: \n\
                    \tTopic: load\tPartition: 0\tLeader: 2\tReplicas: 2,3,1\tIsr: 2,1\tElr: \n\
                    \tTopic: load\tPartition: 1\tLeader: none\tReplicas: 1\tIsr: \n";
        let parsed = parse(text);
        let first = Described { leader: 2, replicas: vec![2, 3, 1], isr: vec![2, 1] };
        assert_eq!(parsed[&0], first);
        assert_eq!(parsed[&1], Described { leader: -1, replicas: vec![1], isr: vec![] });
        assert_eq!(parsed.len(), 2);
    }
}
