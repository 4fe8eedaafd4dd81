//! `klamm group list|describe|reset`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use klamm_client::{
    Admin, ClientError, GroupDescription, GroupListing, GroupMember, OffsetSpec, PlannedReset,
    ResetTo, TopicPartition,
};
use klamm_env::Env;
use klamm_protocol::ErrorCode;
use serde_json::{Value, json};

use crate::cli::Connect;
use crate::failure::{Failure, Outcome};
use crate::output::{self, Table, number_or_dash};
use crate::time_text::{parse_datetime, parse_duration};

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// List the groups
    List(List),
    /// Show a group's members and how far each partition is read
    Describe(Describe),
    /// Move a group to other offsets; shows what it would do unless --execute is given
    Reset(Reset),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// The group's name
    pub(crate) group: String,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct Reset {
    /// The group's name
    pub(crate) group: String,
    /// Which topic; may be given several times
    #[arg(long, value_name = "TOPIC", required = true)]
    pub(crate) topic: Vec<String>,
    #[command(flatten)]
    pub(crate) to: To,
    /// Do it
    #[arg(long)]
    pub(crate) execute: bool,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct To {
    /// To the first record there is
    #[arg(long)]
    pub(crate) to_earliest: bool,
    /// To the end: only new records
    #[arg(long)]
    pub(crate) to_latest: bool,
    /// To this offset
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) to_offset: Option<i64>,
    /// To the first record of this time or later, such as 2026-03-01T12:30:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_datetime)]
    pub(crate) to_datetime: Option<i64>,
    /// To the first record of this long ago or later, such as 90s, 15m, 12h, 1d or P1DT12H
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) by_duration: Option<Duration>,
    /// So many records on or, if negative, back
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) shift_by: Option<i64>,
}

impl To {
    fn reset_to(&self, now_ms: i64) -> ResetTo {
        let ago = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let Self { to_offset, to_datetime, by_duration, shift_by, .. } = self;
        let chosen = to_offset
            .map(ResetTo::Offset)
            .or(to_datetime.map(ResetTo::Timestamp))
            .or(by_duration.map(|back| ResetTo::Timestamp(now_ms.saturating_sub(ago(back)).max(0))))
            .or(shift_by.map(ResetTo::ShiftBy));
        let end = if self.to_earliest { ResetTo::Earliest } else { ResetTo::Latest };
        chosen.unwrap_or(end)
    }
}

pub(crate) async fn run(env: &Env, verb: Group) -> Outcome {
    match verb {
        Group::List(verb) => list(env, verb).await,
        Group::Describe(verb) => describe(env, verb).await,
        Group::Reset(verb) => reset(env, verb).await,
    }
}

async fn list(env: &Env, verb: List) -> Outcome {
    let admin = Admin::new(verb.connect.cluster(env).await?);
    let groups = admin.list_groups().await?;
    let as_json = || {
        let group = |listing: &GroupListing| {
            let GroupListing { group, protocol_type, state } = listing;
            json!({ "group": group, "protocol_type": protocol_type, "state": state })
        };
        groups.iter().map(group).collect::<Value>()
    };
    let as_text = || {
        let mut table = Table::new(&["GROUP", "STATE"]);
        for group in &groups {
            table.row(vec![group.group.clone(), group.state.clone()]);
        }
        table.format()
    };
    Ok(output::print(verb.connect.json, as_json, as_text)?)
}

/// A partition that a group reads, or has read.
#[derive(Default)]
struct Progress<'a> {
    committed: Option<i64>,
    end: Option<i64>,
    member: Option<&'a GroupMember>,
}

impl Progress<'_> {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

async fn describe(env: &Env, verb: Describe) -> Outcome {
    let admin = Admin::new(verb.connect.cluster(env).await?);
    let group = admin.describe_group(&verb.group).await?;
    let committed = admin.group_offsets(&verb.group).await?;
    if group.state == "Dead" && committed.is_empty() {
        return Err(Failure::Refused(format!("group {} does not exist", verb.group)));
    }
    let mut partitions: BTreeMap<TopicPartition, Progress<'_>> = BTreeMap::new();
    for (partition, committed) in committed {
        partitions.entry(partition).or_default().committed = Some(committed.offset);
    }
    for member in &group.members {
        for partition in &member.partitions {
            partitions.entry(partition.clone()).or_default().member = Some(member);
        }
    }
    for partition in partitions.keys().cloned().collect::<Vec<_>>() {
        let end = end(&admin, &partition).await?;
        partitions.entry(partition).or_default().end = end;
    }
    let as_json = || description_json(&group, &partitions);
    let as_text = || description_text(&group, &partitions);
    Ok(output::print(verb.connect.json, as_json, as_text)?)
}

/// The partition's end; none if its topic has been deleted since.
async fn end(admin: &Admin, partition: &TopicPartition) -> Result<Option<i64>, ClientError> {
    match admin.describe_topic(&partition.topic).await {
        Ok(_) => {}
        Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => return Ok(None),
        Err(error) => return Err(error),
    }
    let wanted = BTreeMap::from([(partition.clone(), OffsetSpec::Latest)]);
    match admin.list_offsets(&wanted).await {
        Ok(listed) => Ok(listed.get(partition).map(|listed| listed.offset)),
        Err(ClientError::NoSuchPartition(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn description_json(
    group: &GroupDescription,
    partitions: &BTreeMap<TopicPartition, Progress<'_>>,
) -> Value {
    let partitions = partitions.iter().map(|(partition, progress)| {
        json!({
            "topic": partition.topic,
            "partition": partition.partition,
            "committed": progress.committed,
            "end": progress.end,
            "lag": progress.lag(),
            "member_id": progress.member.map(|member| &member.member_id),
        })
    });
    let members = group.members.iter().map(|member| {
        json!({
            "member_id": member.member_id,
            "instance_id": member.instance_id,
            "client_id": member.client_id,
            "client_host": member.client_host,
        })
    });
    json!({
        "group": group.group,
        "state": group.state,
        "protocol_type": group.protocol_type,
        "assignor": group.assignor,
        "members": members.collect::<Value>(),
        "partitions": partitions.collect::<Value>(),
    })
}

fn description_text(
    group: &GroupDescription,
    partitions: &BTreeMap<TopicPartition, Progress<'_>>,
) -> String {
    let members = output::count(group.members.len() as u64, "member");
    let mut text = format!("group {}, {}, {members}\n", group.group, group.state);
    let mut table =
        Table::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"]);
    for (TopicPartition { topic, partition }, progress) in partitions {
        let member = progress.member;
        table.row(vec![
            topic.clone(),
            partition.to_string(),
            number_or_dash(progress.committed),
            number_or_dash(progress.end),
            number_or_dash(progress.lag()),
            member.map(|member| member.member_id.clone()).unwrap_or_default(),
            member.map(|member| member.client_host.clone()).unwrap_or_default(),
        ]);
    }
    text.push_str(&table.format());
    text
}

async fn reset(env: &Env, verb: Reset) -> Outcome {
    let admin = Admin::new(verb.connect.cluster(env).await?);
    let to = verb.to.reset_to(env.clock.wall_ms());
    let plan = admin.plan_reset(&verb.group, &verb.topic, to).await?;
    if verb.execute {
        refuse_members(&admin, &verb.group).await?;
        admin.reset_group(&verb.group, &plan).await?;
    }
    let as_json = || plan_json(&verb.group, &plan, verb.execute);
    Ok(output::print(verb.connect.json, as_json, || plan_text(&plan, verb.execute))?)
}

async fn refuse_members(admin: &Admin, group: &str) -> Outcome {
    let members = match admin.describe_group(group).await {
        Ok(description) => description.members.len(),
        // Committing for a group brings it into being.
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => 0,
        Err(error) => return Err(error.into()),
    };
    if members == 0 {
        return Ok(());
    }
    let members = output::count(members as u64, "member");
    Err(Failure::Refused(format!("group {group} has {members}, which have to be stopped first")))
}

fn plan_json(group: &str, plan: &[PlannedReset], executed: bool) -> Value {
    let partitions = plan.iter().map(|planned| {
        json!({
            "topic": planned.partition.topic,
            "partition": planned.partition.partition,
            "current": planned.current,
            "target": planned.target,
        })
    });
    json!({ "group": group, "executed": executed, "partitions": partitions.collect::<Value>() })
}

fn plan_text(plan: &[PlannedReset], executed: bool) -> String {
    let target = if executed { "NOW" } else { "WOULD BE" };
    let mut table = Table::new(&["TOPIC", "PARTITION", "WAS", target]);
    for PlannedReset { partition, current, target } in plan {
        let TopicPartition { topic, partition } = partition;
        table.row(vec![
            topic.clone(),
            partition.to_string(),
            number_or_dash(*current),
            target.to_string(),
        ]);
    }
    let hint = if executed { "" } else { "nothing is changed yet: add --execute\n" };
    table.format() + hint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Vec<PlannedReset> {
        let planned = |partition, current, target| PlannedReset {
            partition: TopicPartition::new("orders", partition),
            current,
            target,
        };
        vec![planned(0, Some(10), 0), planned(1, None, 0)]
    }

    #[test]
    fn a_plan_says_that_it_is_one() {
        let expected = "\
TOPIC   PARTITION  WAS  WOULD BE
orders          0   10         0
orders          1    -         0
nothing is changed yet: add --execute
";
        assert_eq!(plan_text(&plan(), false), expected);
        assert!(!plan_text(&plan(), true).contains("--execute"));
        let json = plan_json("billing", &plan(), true);
        assert_eq!(
            (&json["executed"], &json["partitions"][0]["current"]),
            (&json!(true), &json!(10))
        );
    }

    #[test]
    fn people_see_how_far_a_group_lags() {
        let member = GroupMember {
            member_id: "m-1".to_owned(),
            instance_id: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            partitions: Vec::new(),
        };
        let group = GroupDescription {
            group: "billing".to_owned(),
            state: "Stable".to_owned(),
            protocol_type: "consumer".to_owned(),
            assignor: "range".to_owned(),
            members: vec![member.clone()],
        };
        let read = Progress { committed: Some(4), end: Some(10), member: Some(&member) };
        let unread = Progress { committed: None, end: Some(3), member: None };
        let partitions = BTreeMap::from([
            (TopicPartition::new("orders", 0), read),
            (TopicPartition::new("orders", 1), unread),
        ]);
        let expected = "\
group billing, Stable, 1 member
TOPIC   PARTITION  COMMITTED  END  LAG  MEMBER  HOST
orders          0          4   10    6  m-1     /127.0.0.1
orders          1          -    3    -
";
        assert_eq!(description_text(&group, &partitions), expected);
        let json = description_json(&group, &partitions);
        assert_eq!(json["partitions"][0]["lag"], 6);
        assert_eq!(json["partitions"][1]["lag"], Value::Null);
    }

    #[test]
    fn a_duration_counts_back_from_now() {
        let to = To {
            to_earliest: false,
            to_latest: false,
            to_offset: None,
            to_datetime: None,
            by_duration: Some(Duration::from_secs(60)),
            shift_by: None,
        };
        assert_eq!(to.reset_to(100_000), ResetTo::Timestamp(40_000));
    }
}
