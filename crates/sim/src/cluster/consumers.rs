//! A plain consumer, the members of a group, and the whole reads at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use klamm_client::{
    Admin, AutoOffsetReset, ClientError, Consumer, ConsumerConfig, ConsumerRecord, OffsetSpec,
    OffsetToCommit, RebalanceEvent, StartAt, TopicPartition,
};
use klamm_history::{self as history, Fetched, FinalRead, Isolation, Operation, Poll, Record};

use super::load::{Client, LOOK, TOPIC, value_of};
use super::shared::Phase;

/// The group.
const GROUP: &str = "readers";
const POLL: Duration = Duration::from_millis(200);
/// A member commits after every so many polls with records.
const COMMIT_EVERY: u64 = 3;
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

fn config() -> ConsumerConfig {
    ConsumerConfig {
        // Out of range can only be what was there and is gone.
        auto_offset_reset: AutoOffsetReset::None,
        auto_commit_interval: None,
        fetch_wait_max: Duration::from_millis(200),
        session_timeout: SESSION_TIMEOUT,
        rebalance_timeout: SESSION_TIMEOUT,
        heartbeat_interval: Duration::from_secs(1),
        ..ConsumerConfig::default()
    }
}

fn partitions(client: &Client) -> Vec<TopicPartition> {
    (0..client.scenario.partitions).map(|n| TopicPartition::new(TOPIC, n)).collect()
}

/// Reads all partitions from their start until the whole reads have told where they end.
pub(super) async fn follow(client: Client, number: u32) -> turmoil::Result {
    client.reach(Phase::Unrest).await;
    let mut consumer = Consumer::new(client.connect().await, config());
    let all = partitions(&client);
    consumer.assign(all.iter().map(|partition| (partition.clone(), StartAt::Earliest)));
    loop {
        match consumer.poll(POLL).await {
            Ok(records) => take(&client, number, &consumer, &records)?,
            Err(error) => on_error(&client, &error)?,
        }
        let notes = client.shared.lock();
        let is_behind = |partition: &TopicPartition| {
            let end = notes.ends.get(&partition.partition).copied().unwrap_or(0);
            consumer.position(partition).is_none_or(|at| at < end)
        };
        if notes.was_read && !all.iter().any(is_behind) {
            break;
        }
    }
    client.trace.line(format_args!("{} has read all", client.name));
    Ok(())
}

/// Reads as a member of the group, and commits.
pub(super) async fn join(client: Client, number: u32) -> turmoil::Result {
    client.reach(Phase::Unrest).await;
    let config = ConsumerConfig {
        group: Some(GROUP.to_owned()),
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..config()
    };
    let mut consumer = Consumer::new(client.connect().await, config);
    consumer.subscribe([TOPIC])?;
    let mut member = Member { client, number, unsettled: BTreeSet::new(), polls: 0 };
    while member.client.shared.phase() < Phase::Reading {
        match consumer.poll(POLL).await {
            Ok(records) => member.on_poll(&mut consumer, &records).await?,
            Err(error) => {
                member.on_events(&mut consumer);
                on_error(&member.client, &error)?;
                tokio::time::sleep(LOOK).await;
            }
        }
    }
    // Refused where the group is being shared out anew: what was committed before stands.
    let _ = consumer.close().await;
    member.client.trace.line(format_args!("{} has left", member.client.name));
    member.client.shared.lock().members_done += 1;
    Ok(())
}

struct Member {
    client: Client,
    number: u32,
    /// Assigned, and where it starts is not known yet.
    unsettled: BTreeSet<TopicPartition>,
    polls: u64,
}

impl Member {
    async fn on_poll(
        &mut self,
        consumer: &mut Consumer,
        records: &[ConsumerRecord],
    ) -> Result<(), String> {
        self.on_events(consumer);
        self.check_starts(consumer);
        take(&self.client, self.number, consumer, records)?;
        self.polls += u64::from(!records.is_empty());
        if !records.is_empty() && self.polls.is_multiple_of(COMMIT_EVERY) {
            self.commit(consumer).await;
        }
        Ok(())
    }

    fn on_events(&mut self, consumer: &mut Consumer) {
        for event in consumer.take_events() {
            self.client.trace.line(format_args!("{}: {event:?}", self.client.name));
            match event {
                RebalanceEvent::Assigned(partitions) => {
                    for partition in &partitions {
                        let moved = Operation::Moved {
                            consumer: self.number,
                            partition: history::TopicPartition::new(TOPIC, partition.partition),
                            position: None,
                        };
                        self.client.shared.note(&self.client.name, moved);
                    }
                    self.unsettled = partitions.into_iter().collect();
                }
                RebalanceEvent::Revoked(_) | RebalanceEvent::Lost(_) => self.unsettled.clear(),
            }
        }
    }

    /// A new owner starts at what was committed, or later: no acknowledged commit is forgotten.
    fn check_starts(&mut self, consumer: &Consumer) {
        let mut notes = self.client.shared.lock();
        let is_settled = |partition: &TopicPartition| consumer.position(partition);
        let settled: Vec<_> = self
            .unsettled
            .iter()
            .filter_map(|partition| Some((partition.clone(), is_settled(partition)?)))
            .collect();
        for (partition, at) in settled {
            let committed = notes.committed.get(&partition.partition).copied().unwrap_or(0);
            if at < committed {
                let name = &self.client.name;
                let what = format!("I14: {name} starts {partition} at {at}, not {committed}");
                notes.faults_seen.insert(what);
            }
            self.unsettled.remove(&partition);
        }
    }

    async fn commit(&self, consumer: &Consumer) {
        let position =
            |partition: &TopicPartition| Some((partition.clone(), consumer.position(partition)?));
        let positions: BTreeMap<_, _> = consumer.assignment().filter_map(position).collect();
        for (partition, offset) in &positions {
            let mut notes = self.client.shared.lock();
            let tried = notes.commits_tried.entry(partition.partition).or_default();
            *tried = (*tried).max(*offset);
        }
        let offsets: BTreeMap<_, OffsetToCommit> =
            positions.iter().map(|(partition, at)| (partition.clone(), (*at).into())).collect();
        match consumer.commit_offsets(&offsets).await {
            Ok(()) => {
                self.client
                    .trace
                    .line(format_args!("{} committed {positions:?}", self.client.name));
                let mut notes = self.client.shared.lock();
                notes.commits += 1;
                for (partition, offset) in positions {
                    let committed = notes.committed.entry(partition.partition).or_default();
                    *committed = (*committed).max(offset);
                }
            }
            Err(error) => {
                self.client.trace.line(format_args!("{}: no commit: {error}", self.client.name));
            }
        }
    }
}

/// An error that may be one of a cluster in trouble is waited out.
fn on_error(client: &Client, error: &ClientError) -> Result<(), String> {
    client.trace.line(format_args!("{}: {error}", client.name));
    match error {
        ClientError::NoPosition(partition) => {
            Err(format!("I9: what {} has read of {partition} is gone", client.name))
        }
        ClientError::Records { .. } | ClientError::Decode { .. } => {
            Err(format!("{}: {error}", client.name))
        }
        _ => Ok(()),
    }
}

/// Notes what a poll returned.
fn take(
    client: &Client,
    number: u32,
    consumer: &Consumer,
    records: &[ConsumerRecord],
) -> Result<(), String> {
    let mut fetched: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    for record in records {
        let value = value_of(record.value.as_ref())?;
        let (partition, offset) = (record.partition, record.offset);
        client.trace.line(format_args!("{} read {value} at {partition} {offset}", client.name));
        fetched.entry(partition).or_default().push(Record { offset, value });
    }
    let mut notes = client.shared.lock();
    for partition in consumer.assignment() {
        if let Some(end) = consumer.high_watermark(partition) {
            let known = notes.high_watermarks.entry(partition.partition).or_default();
            *known = (*known).max(end);
        }
    }
    notes.polled += records.len();
    drop(notes);
    if records.is_empty() {
        return Ok(());
    }
    let fetched = fetched.into_iter().map(|(partition, records)| Fetched {
        partition: history::TopicPartition::new(TOPIC, partition),
        records,
    });
    let poll = Poll {
        consumer: number,
        isolation: Isolation::ReadUncommitted,
        transaction: None,
        fetched: fetched.collect(),
    };
    client.shared.note(&client.name, Operation::Poll(poll));
    Ok(())
}

/// Reads every partition whole, and what the group has committed, once nothing changes any more.
pub(super) async fn read_all(client: Client) -> turmoil::Result {
    client.reach(Phase::Reading).await;
    let cluster = client.connect().await;
    let admin = Admin::new(cluster.clone());
    let all = partitions(&client);
    let wanted = |spec: OffsetSpec| all.iter().map(|name| (name.clone(), spec)).collect();
    let ends: BTreeMap<_, i64> = admin
        .list_offsets(&wanted(OffsetSpec::Latest))
        .await?
        .into_iter()
        .map(|(name, listed)| (name, listed.offset))
        .collect();
    let mut consumer = Consumer::new(cluster, config());
    consumer.assign(all.iter().map(|partition| (partition.clone(), StartAt::Earliest)));
    let mut records: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    let is_behind = |consumer: &Consumer| {
        ends.iter().any(|(name, end)| consumer.position(name).is_none_or(|at| at < *end))
    };
    while is_behind(&consumer) {
        for read in consumer.poll(POLL).await? {
            let value = value_of(read.value.as_ref())?;
            let of_partition = records.entry(read.partition).or_default();
            of_partition.push(Record { offset: read.offset, value });
        }
    }
    while client.shared.lock().members_done < client.scenario.members {
        tokio::time::sleep(LOOK).await;
    }
    let committed = match client.scenario.members {
        0 => BTreeMap::new(),
        _ => admin.group_offsets(GROUP).await?,
    };
    let mut notes = client.shared.lock();
    for (name, end) in ends {
        let read = FinalRead {
            log_start: 0,
            end,
            isolation: Isolation::ReadUncommitted,
            compacted: false,
            records: records.remove(&name.partition).unwrap_or_default(),
        };
        client.trace.line(format_args!("{name} was read to {end}"));
        notes.ends.insert(name.partition, end);
        let name = history::TopicPartition::new(TOPIC, name.partition);
        notes.final_reads.insert(name, read);
    }
    notes.committed_at_end =
        committed.into_iter().map(|(name, committed)| (name.partition, committed.offset)).collect();
    notes.was_read = true;
    Ok(())
}
