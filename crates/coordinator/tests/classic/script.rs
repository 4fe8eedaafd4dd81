//! A broker of one internal partition, played by hand: every call's records and replies become
//! lines of a trace, which a test compares with what it expects.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use klamm_coordinator::*;
use klamm_protocol::ErrorCode;
use uuid::Uuid;

pub(crate) const GROUP: &str = "g";

pub(crate) struct Script {
    pub(crate) groups: Groups,
    /// What the internal partition holds.
    pub(crate) log: Vec<Record>,
    pub(crate) now: Now,
    /// The next appends fail with this.
    pub(crate) append_error: Option<ErrorCode>,
    trace: String,
    asked: BTreeMap<Ticket, String>,
    next_ticket: u64,
    next_member: u128,
}

/// Who joins, and how.
#[derive(Clone)]
pub(crate) struct As<'a> {
    pub(crate) name: &'a str,
    pub(crate) member: &'a str,
    pub(crate) instance: Option<&'a str>,
    pub(crate) version: i16,
    pub(crate) protocols: &'a [(&'a str, &'a [u8])],
    pub(crate) session_ms: i32,
    pub(crate) rebalance_ms: i32,
    pub(crate) protocol_type: &'a str,
}

impl Default for As<'_> {
    fn default() -> Self {
        As {
            name: "a",
            member: "",
            instance: None,
            version: 9,
            protocols: &[("range", b"meta")],
            session_ms: 10_000,
            rebalance_ms: 60_000,
            protocol_type: "consumer",
        }
    }
}

impl Script {
    pub(crate) fn new() -> Script {
        Script::with(GroupConfig::default())
    }

    pub(crate) fn with(config: GroupConfig) -> Script {
        let now = Now { at: Time(1_000_000), wall_ms: 1_700_000_000_000 };
        let mut groups = Groups::new(config);
        groups.loaded(now);
        Script {
            groups,
            log: Vec::new(),
            now,
            append_error: None,
            trace: String::new(),
            asked: BTreeMap::new(),
            next_ticket: 1,
            next_member: 1,
        }
    }

    /// A fresh machine that has read what this one wrote.
    pub(crate) fn failover(&mut self, config: GroupConfig) {
        let machine = std::mem::replace(&mut self.groups, Groups::new(config));
        let replies = machine.resign();
        self.trace_replies(replies);
        for record in &self.log {
            let (key, value) = record.encode().unwrap();
            self.groups.apply(Record::decode(key, value).unwrap());
        }
        self.groups.loaded(self.now);
    }

    fn ticket(&mut self, who: &str) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.asked.insert(ticket, who.to_owned());
        ticket
    }

    /// Tickets that are still waiting for their answer.
    pub(crate) fn parked(&self) -> Vec<&str> {
        self.asked.values().map(String::as_str).collect()
    }

    pub(crate) fn run(&mut self, proposal: Proposal) {
        for record in proposal.records() {
            let line = self.describe_record(record);
            self.trace_line(&line);
        }
        let records = proposal.records().to_vec();
        let replies = match self.append_error {
            Some(error) if !records.is_empty() => {
                self.trace_line(&format!("append fails: {}", error.name()));
                let undone = self.groups.reject(self.now, proposal, error);
                self.groups.accept(self.now, undone)
            }
            _ => {
                self.log.extend(records);
                self.groups.accept(self.now, proposal)
            }
        };
        self.trace_replies(replies);
    }

    fn trace_replies(&mut self, replies: Vec<Reply>) {
        for reply in replies {
            let who = self.asked.remove(&reply.to).expect("answered once");
            let line = format!("{who} <- {}", describe_answer(&reply.answer));
            self.trace_line(&line);
        }
    }

    fn trace_line(&mut self, line: &str) {
        let line = shorten(line);
        writeln!(self.trace, "{line}").unwrap();
    }

    fn describe_record(&self, record: &Record) -> String {
        match record {
            Record::Group { group, image: None } => format!("log {group} tombstone"),
            Record::Group { group, image: Some(image) } => {
                let members: Vec<String> = image
                    .members
                    .iter()
                    .map(|it| format!("{}={}", it.member_id, text(&it.assignment)))
                    .collect();
                format!("log {group} generation {} [{}]", image.generation, members.join(", "))
            }
            Record::Offset { group, topic, partition, offset } => match offset {
                None => format!("log {group} {topic}-{partition} tombstone"),
                Some(offset) => format!("log {group} {topic}-{partition} at {}", offset.offset),
            },
        }
    }

    /// Compares the trace since the last call, line by line.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &str) {
        let expected: Vec<&str> =
            expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let trace = std::mem::take(&mut self.trace);
        let actual: Vec<&str> = trace.lines().map(str::trim_end).collect();
        assert_eq!(actual, expected, "\nactual:\n{trace}");
    }

    pub(crate) fn forget_trace(&mut self) {
        self.trace.clear();
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = Time(self.now.at.0 + ms);
        while let Some(deadline) = self.groups.next_deadline().filter(|it| *it <= end) {
            let step = deadline.0.saturating_sub(self.now.at.0);
            self.now.at = Time(self.now.at.0 + step);
            self.now.wall_ms += step as i64;
            while let Some(proposal) = self.groups.on_time(self.now) {
                self.run(proposal);
            }
        }
        self.now.wall_ms += (end.0 - self.now.at.0) as i64;
        self.now.at = end;
    }

    pub(crate) fn join(&mut self, who: As<'_>) {
        let ticket = self.ticket(who.name);
        let fresh = Uuid::from_u128(self.next_member);
        self.next_member += 1;
        let join = Join {
            ticket,
            api_version: who.version,
            client_id: who.name.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            group_id: GROUP.to_owned(),
            member_id: lengthen(who.member),
            group_instance_id: who.instance.map(str::to_owned),
            protocol_type: who.protocol_type.to_owned(),
            protocols: who
                .protocols
                .iter()
                .map(|(name, metadata)| Protocol {
                    name: (*name).to_owned(),
                    metadata: Bytes::copy_from_slice(metadata),
                })
                .collect(),
            session_timeout_ms: who.session_ms,
            rebalance_timeout_ms: who.rebalance_ms,
            reason: None,
            fresh,
        };
        let proposal = self.groups.join(self.now, join);
        self.run(proposal);
    }

    /// `member` asks for its assignment; the leader brings the assignments.
    pub(crate) fn sync(
        &mut self,
        name: &str,
        member: &str,
        generation: i32,
        assign: &[(&str, &str)],
    ) {
        self.sync_as(name, member, None, generation, assign);
    }

    pub(crate) fn sync_as(
        &mut self,
        name: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        assign: &[(&str, &str)],
    ) {
        let sync = Sync {
            ticket: self.ticket(name),
            group_id: GROUP.to_owned(),
            generation,
            member_id: lengthen(member),
            group_instance_id: instance.map(str::to_owned),
            protocol_type: None,
            protocol: None,
            assignments: assign
                .iter()
                .map(|(id, what)| (lengthen(id), Bytes::copy_from_slice(what.as_bytes())))
                .collect(),
        };
        let proposal = self.groups.sync(self.now, sync);
        self.run(proposal);
    }

    pub(crate) fn heartbeat(
        &mut self,
        name: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) {
        let beat = Heartbeat {
            ticket: self.ticket(name),
            group_id: GROUP.to_owned(),
            generation,
            member_id: lengthen(member),
            group_instance_id: instance.map(str::to_owned),
        };
        let proposal = self.groups.heartbeat(self.now, beat);
        self.run(proposal);
    }

    pub(crate) fn leave(&mut self, name: &str, leaving: &[(&str, Option<&str>)]) {
        let leave = Leave {
            ticket: self.ticket(name),
            group_id: GROUP.to_owned(),
            members: leaving
                .iter()
                .map(|(member, instance)| Leaving {
                    member_id: lengthen(member),
                    group_instance_id: instance.map(str::to_owned),
                    reason: None,
                })
                .collect(),
        };
        let proposal = self.groups.leave(self.now, leave);
        self.run(proposal);
    }

    pub(crate) fn commit(&mut self, name: &str, member: &str, generation: i32, offset: i64) {
        self.commit_at(name, member, None, generation, &[("t", 0, offset)]);
    }

    pub(crate) fn commit_at(
        &mut self,
        name: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        offsets: &[(&str, i32, i64)],
    ) {
        let commit = Commit {
            ticket: self.ticket(name),
            api_version: 8,
            group_id: GROUP.to_owned(),
            generation,
            member_id: lengthen(member),
            group_instance_id: instance.map(str::to_owned),
            retention_ms: None,
            offsets: offsets
                .iter()
                .map(|(topic, partition, offset)| CommitOffset {
                    topic: (*topic).to_owned(),
                    topic_id: Uuid::nil(),
                    partition: *partition,
                    offset: *offset,
                    leader_epoch: 7,
                    metadata: Some("note".to_owned()),
                })
                .collect(),
        };
        self.commit_request(commit);
    }

    pub(crate) fn commit_request(&mut self, mut commit: Commit) {
        if !self.asked.contains_key(&commit.ticket) {
            commit.ticket = self.ticket("admin");
        }
        let proposal = self.groups.commit(self.now, commit);
        self.run(proposal);
    }

    pub(crate) fn delete_offsets(&mut self, name: &str, partitions: &[(&str, i32)]) {
        let delete = DeleteOffsets {
            ticket: self.ticket(name),
            group_id: GROUP.to_owned(),
            partitions: partitions.iter().map(|(topic, p)| ((*topic).to_owned(), *p)).collect(),
        };
        let proposal = self.groups.delete_offsets(delete);
        self.run(proposal);
    }

    pub(crate) fn delete_group(&mut self, name: &str) {
        let ticket = self.ticket(name);
        let proposal = self.groups.delete_group(ticket, GROUP);
        self.run(proposal);
    }

    pub(crate) fn forget_topic(&mut self, topic: &str, id: Uuid) {
        loop {
            let proposal = self.groups.forget_topic(topic, id);
            if proposal.records().is_empty() {
                return self.run(proposal);
            }
            self.run(proposal);
        }
    }

    pub(crate) fn committed(&self, topic: &str, partition: i32) -> Option<i64> {
        self.groups.committed(GROUP, topic, Uuid::nil(), partition).map(|it| it.offset)
    }

    pub(crate) fn state(&self) -> &'static str {
        self.groups.describe(GROUP).map_or("Dead", |group| group.state.name())
    }

    /// Members `a#1` (the leader) and `b#2` in generation 1, stable; `a` owns "0", `b` owns "1".
    pub(crate) fn stable_pair() -> Script {
        let mut script = Script::new();
        script.join(As { name: "a", version: 3, ..As::default() });
        script.join(As { name: "b", version: 3, ..As::default() });
        script.pass(6_000);
        script.sync("b", "b#2", 1, &[]);
        script.sync("a", "a#1", 1, &[("a#1", "0"), ("b#2", "1")]);
        assert_eq!(script.state(), "Stable");
        script.forget_trace();
        script
    }

    /// Static members `one#1` (the leader) and `two#2` in generation 1, stable.
    pub(crate) fn stable_static_pair() -> Script {
        let mut script = Script::new();
        script.join(As { name: "a", instance: Some("one"), ..As::default() });
        script.join(As { name: "b", instance: Some("two"), ..As::default() });
        script.pass(6_000);
        script.sync_as("b", "two#2", Some("two"), 1, &[]);
        script.sync_as("a", "one#1", Some("one"), 1, &[("one#1", "0"), ("two#2", "1")]);
        assert_eq!(script.state(), "Stable");
        script.forget_trace();
        script
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `a-00000000-0000-0000-0000-00000000000c` to `a#12`.
fn shorten(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    const ZEROS: &str = "-00000000-0000-0000-0000-";
    while let Some(at) = rest.find(ZEROS) {
        out.push_str(&rest[..at]);
        let digits = &rest[at + ZEROS.len()..at + ZEROS.len() + 12];
        write!(out, "#{}", u64::from_str_radix(digits, 16).unwrap()).unwrap();
        rest = &rest[at + ZEROS.len() + 12..];
    }
    out + rest
}

/// `a#12` to `a-00000000-0000-0000-0000-00000000000c`.
pub(crate) fn lengthen(member: &str) -> String {
    match member.split_once('#') {
        Some((name, number)) => {
            format!("{name}-{}", Uuid::from_u128(number.parse::<u128>().unwrap()))
        }
        None => member.to_owned(),
    }
}

fn describe_answer(answer: &Answer) -> String {
    match answer {
        Answer::Join(join) if join.error == ErrorCode::None => {
            let members: Vec<&str> = join.members.iter().map(|it| it.member_id.as_str()).collect();
            let skip = if join.skip_assignment { " skip" } else { "" };
            format!(
                "join {} generation {} leader {} [{}]{skip}",
                join.member_id,
                join.generation,
                join.leader,
                members.join(", ")
            )
        }
        Answer::Join(join) => format!("join {} {}", join.error.name(), join.member_id),
        Answer::Sync(sync) if sync.error == ErrorCode::None => {
            format!("sync {}", text(&sync.assignment))
        }
        Answer::Sync(sync) => format!("sync {}", sync.error.name()),
        Answer::Heartbeat(error) => format!("heartbeat {}", error.name()),
        Answer::Leave(leave) => {
            let members: Vec<&str> = leave.members.iter().map(|it| it.error.name()).collect();
            format!("leave {} [{}]", leave.error.name(), members.join(", "))
        }
        Answer::Commit(codes) => format!("commit {}", names(codes)),
        Answer::DeleteOffsets(Ok(codes)) => format!("offset delete {}", names(codes)),
        Answer::DeleteOffsets(Err(error)) => format!("offset delete failed {}", error.name()),
        Answer::DeleteGroup(error) => format!("delete {}", error.name()),
    }
}

fn names(codes: &[ErrorCode]) -> String {
    codes.iter().map(|code| code.name()).collect::<Vec<_>>().join(" ")
}
