//! Fetch: whole batches from the one that holds the asked offset on, up to the high watermark, or to
//! the last stable offset with read_committed.
//!
//! Versions 4 to 18; topics by name up to 12, by id from 13 on.
//!
//! - With too little data the answer waits until `min_bytes` are there or `max_wait_ms` are over;
//!   it is woken by the high watermark, no disk is polled. An error is answered at once.
//! - The first batch found is sent even if it is larger than the limits, so that a consumer never
//!   stalls; later ones stay within the limits of partition, request and `fetch.max.bytes`.
//! - Incremental sessions from version 7 on; a partition that had records is served last next time.
//! - With read_committed the aborted transactions that the batches may be of are listed by their
//!   first offset; one may have begun before the asked offset. The list is empty where nothing is
//!   read or there is no partition, and null with read_uncommitted.
//! - Current leader epochs are checked from version 9 on. Who leads is told from version 16 on.
//! - From version 12 on a client may say of which epoch its last record is; where this log differs,
//!   the answer says where both agree (KIP-595).
//! - A follower (`replica_id` at or above 0) reads to the log's end, and what it asks for is its word
//!   that it holds all below ([`crate::replication`]). Only a registered broker is taken for one, on
//!   the listener that brokers use among themselves; others are answered as Kafka answers one that is
//!   not assigned.
//! - What goes to a follower out of sync is held to `leader.replication.throttled.rate`, of the partitions
//!   that the topic lists (KIP-73). While nothing may go, the answer waits.
//! - From version 11 on a consumer may read from a follower, up to the high watermark that it knows,
//!   and is sent to one in its rack where `replica.selector.class` says so (KIP-392). Followers hear
//!   then of a higher one at once, and not with the next record or when `max_wait_ms` are over.

mod look;
mod replica;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use klamm_env::network::FileSlice;
use klamm_env::threads::run_blocking;
use klamm_log::{AbortedTransaction as Aborted, LogReader, LogSlice};
use klamm_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchTopic,
    FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use klamm_protocol::{EncodeError, ErrorCode, Records};
use tokio::time::{Instant, sleep_until};
use tracing::warn;
use uuid::Uuid;

use crate::dispatch::{Frame, Reply, ReplyHeader};
use crate::fetch_session::{FetchContext, NO_SESSION, Told, TopicRef, Wanted};
use crate::partition::{Offsets, Partition};
use crate::replication::Allowance;
use crate::request::{Answer, RequestContext};
use look::{Look, Registered, Scope};
use replica::{Asker, Replica, Throttle, are_followers_read, preferred, take_word};

/// The first version whose consumers know how to read from followers.
const FOLLOWERS_SINCE: i16 = 11;
/// The first version that names topics by id.
const IDS_SINCE: i16 = 13;
/// The first version that is told the current leader.
const LEADER_SINCE: i16 = 16;
/// `isolation_level` of read_committed.
const READ_COMMITTED: i8 = 1;
/// `preferred_read_replica` where there is none.
const NO_REPLICA: i32 = -1;

/// A response whose records are still in their files.
pub(crate) struct FetchReply {
    response: FetchResponse,
    pieces: Vec<FileSlice>,
}

impl Reply for FetchReply {
    fn into_frame(self, header: &ReplyHeader) -> Result<Frame, EncodeError> {
        Ok(Frame { encoded: header.encode(&self.response)?, pieces: self.pieces })
    }
}

pub(crate) async fn handle(ctx: &RequestContext, request: FetchRequest) -> Answer<FetchReply> {
    let fetch = match Fetch::begin(ctx, request).await {
        Ok(fetch) => fetch,
        Err(code) => return Answer::Now(refused(code, NO_SESSION)),
    };
    let round = fetch.read().await;
    if fetch.is_enough(&round) {
        return Answer::Now(fetch.reply(round));
    }
    Answer::Later(Box::pin(fetch.wait(round)))
}

fn refused(code: ErrorCode, session_id: i32) -> FetchReply {
    let response =
        FetchResponse { error_code: code.as_i16(), session_id, ..FetchResponse::default() };
    FetchReply { response, pieces: Vec::new() }
}

/// One fetch from its first look to its answer.
struct Fetch {
    ctx: RequestContext,
    session: FetchContext,
    session_epoch: i32,
    parts: Vec<Part>,
    replica: Option<Replica>,
    /// What a follower knows of the high watermarks, if it is to hear at once of higher ones:
    /// consumers wait there for them.
    known: Option<Vec<i64>>,
    rack: String,
    min_bytes: u64,
    max_bytes: u64,
    max_wait: Duration,
    committed_only: bool,
}

/// One partition that is asked for.
struct Part {
    wanted: Wanted,
    partition: Result<Arc<Partition>, ErrorCode>,
}

/// What one look at all partitions gave.
struct Round {
    results: Vec<Result<Data, ErrorCode>>,
    bytes: u64,
    /// When what is withheld may go, where something is.
    opens: Option<Instant>,
}

/// What one partition gave.
struct Data {
    offsets: Offsets,
    slice: LogSlice,
    /// With read_committed.
    aborted: Option<Vec<Aborted>>,
    /// Where the asker's log and this one part: an epoch, and its end here.
    diverging: Option<(i32, i64)>,
    /// The replica that the consumer should rather ask.
    preferred: Option<i32>,
    /// Whatever there is may not go yet.
    withheld: bool,
}

impl Data {
    fn nothing(offsets: Offsets) -> Data {
        let slice = LogSlice::default();
        Data { offsets, slice, aborted: None, diverging: None, preferred: None, withheld: false }
    }

    /// Whether the asker has to hear of it at once.
    fn is_urgent(&self) -> bool {
        self.diverging.is_some() || self.preferred.is_some()
    }
}

impl Fetch {
    async fn begin(ctx: &RequestContext, request: FetchRequest) -> Result<Fetch, ErrorCode> {
        let by_id = ctx.api_version >= IDS_SINCE;
        let asker = Asker::of(ctx, &request);
        let forgotten: Vec<_> = request
            .forgotten_topics_data
            .iter()
            .flat_map(|topic| {
                let of = topic_ref(by_id, &topic.topic, topic.topic_id);
                topic.partitions.iter().map(move |index| (of.clone(), *index))
            })
            .collect();
        let wanted = request.topics.into_iter().flat_map(|topic| wanted(by_id, topic)).collect();
        let (session, wanted) = ctx.broker.fetch_sessions.begin(
            now_ms(ctx),
            (request.session_id, request.session_epoch),
            by_id,
            wanted,
            &forgotten,
        )?;
        let told = session.told_high_watermarks(&wanted);
        let parts: Vec<_> =
            wanted.into_iter().map(|wanted| Part::find(ctx, wanted, asker)).collect();
        open(&parts).await;
        let replica = match asker {
            Asker::Replica(replica) => Some(replica),
            Asker::Consumer | Asker::Stranger => None,
        };
        if let Some(replica) = replica {
            take_word(ctx, &parts, replica);
        }
        let limit = request.max_bytes.min(ctx.broker.config().fetch_max_bytes);
        Ok(Fetch {
            ctx: ctx.clone(),
            session,
            session_epoch: request.session_epoch,
            parts,
            replica,
            known: told.filter(|_| replica.is_some() && are_followers_read(ctx)),
            rack: request.rack_id,
            min_bytes: u64::try_from(request.min_bytes).unwrap_or(0),
            max_bytes: u64::try_from(limit).unwrap_or(0),
            max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
            committed_only: request.isolation_level == READ_COMMITTED,
        })
    }

    /// Looks at every partition once; where its disk has to be waited for, on a thread that may.
    async fn read(&self) -> Round {
        let mut left = self.max_bytes;
        let mut throttle = Throttle::new(&self.ctx, self.replica);
        let results = Vec::with_capacity(self.parts.len());
        let mut round = Round { results, bytes: 0, opens: None };
        for part in &self.parts {
            // Until something is found, one batch may be larger than all limits.
            let may_exceed = round.bytes == 0;
            let data = match throttle.allows(part) {
                Allowance::Bytes(bytes) => part.read(self, left.min(bytes), may_exceed).await,
                Allowance::NothingFor(pause) => {
                    round.opens.get_or_insert_with(|| Instant::now() + pause);
                    let data = part.read(self, 0, false).await;
                    data.map(|data| Data { withheld: true, ..data })
                }
            };
            let len = data.as_ref().map_or(0, |data| data.slice.len());
            throttle.note(part, len);
            round.bytes += len;
            left = left.saturating_sub(len);
            round.results.push(data);
        }
        round
    }

    /// Whether the asker is a consumer that knows what a follower is.
    fn may_follow(&self) -> bool {
        self.replica.is_none() && self.ctx.api_version >= FOLLOWERS_SINCE
    }

    fn scope(&self) -> Scope {
        match (self.replica, self.committed_only) {
            (Some(_), _) => Scope::Everything,
            (None, true) => Scope::Stable,
            (None, false) => Scope::Committed,
        }
    }

    fn is_enough(&self, round: &Round) -> bool {
        round.bytes >= self.min_bytes
            || self.max_wait.is_zero()
            || round.results.is_empty()
            || round.results.iter().any(|result| result.as_ref().map_or(true, Data::is_urgent))
            || self.is_behind(round)
            || self.ctx.broker.is_stopping()
    }

    /// Whether there is a high watermark that a follower has to hear of.
    fn is_behind(&self, round: &Round) -> bool {
        let known = self.known.iter().flatten();
        let news = |(known, result): (&i64, &Result<Data, ErrorCode>)| {
            result.as_ref().is_ok_and(|data| data.offsets.high_watermark > *known)
        };
        known.zip(&round.results).any(news)
    }

    /// Waits for the partitions' high watermarks until there is enough, or time is over. What is
    /// withheld is not waited for but by time.
    async fn wait(self, mut round: Round) -> FetchReply {
        let deadline = Instant::now() + self.max_wait;
        let mut alarm = pin!(sleep_until(deadline));
        loop {
            let wakes = &self.ctx.connection.wakes;
            let scope = self.scope();
            let tells = self.known.is_some();
            let registered = Registered::new(&self.parts, scope, tells, &round, wakes);
            // What came between the look and the registration.
            if registered.is_overtaken() {
                drop(registered);
                round = self.read().await;
                if self.is_enough(&round) {
                    break;
                }
                continue;
            }
            let until = round.opens.map_or(deadline, |opens| opens.min(deadline));
            if alarm.deadline() != until {
                alarm.as_mut().reset(until);
            }
            let over = {
                let fired = pin!(registered.signal.fired());
                let rang = matches!(select(fired, &mut alarm).await, Either::Right(_));
                rang && until == deadline
            };
            drop(registered);
            round = self.read().await;
            if over || self.is_enough(&round) {
                break;
            }
        }
        self.reply(round)
    }

    fn reply(self, round: Round) -> FetchReply {
        let told: Vec<_> = self
            .parts
            .iter()
            .zip(&round.results)
            .map(|(part, result)| (part.wanted.clone(), told(result)))
            .collect();
        let sessions = &self.ctx.broker.fetch_sessions;
        let random = &self.ctx.broker.env.random;
        let finished = sessions.finish(
            now_ms(&self.ctx),
            || random.u64() as i32,
            &self.session,
            self.session_epoch,
            &told,
        );
        let (session_id, kept) = match finished {
            Ok(finished) => finished,
            Err((code, session_id)) => return refused(code, session_id),
        };
        let response = FetchResponse { session_id, ..FetchResponse::default() };
        let mut reply = FetchReply { response, pieces: Vec::new() };
        let mut throttle = Throttle::new(&self.ctx, self.replica);
        for ((part, result), kept) in self.parts.iter().zip(round.results).zip(kept) {
            if kept {
                throttle.note(part, result.as_ref().map_or(0, |data| data.slice.len()));
                self.add(&mut reply, part, result);
            }
        }
        throttle.record();
        reply
    }

    /// Adds one partition to the answer; neighbours of one topic share its entry.
    fn add(&self, reply: &mut FetchReply, part: &Part, result: Result<Data, ErrorCode>) {
        let index = part.wanted.index;
        let data = match result {
            Ok(data) => self.data(reply, index, data),
            Err(code) => self.failed(&mut reply.response, part, code),
        };
        let (topic, topic_id) = match &part.wanted.topic {
            TopicRef::Name(name) => (name.to_string(), Uuid::nil()),
            TopicRef::Id(id) => (String::new(), *id),
        };
        match reply.response.responses.last_mut() {
            Some(last) if last.topic == topic && last.topic_id == topic_id => {
                last.partitions.push(data);
            }
            _ => reply.response.responses.push(FetchableTopicResponse {
                topic,
                topic_id,
                partitions: vec![data],
            }),
        }
    }

    fn data(&self, reply: &mut FetchReply, partition_index: i32, data: Data) -> PartitionData {
        let len = u32::try_from(data.slice.len()).expect("a slice is within a segment");
        reply.pieces.extend(data.slice.file);
        PartitionData {
            partition_index,
            high_watermark: data.offsets.high_watermark,
            last_stable_offset: data.offsets.last_stable,
            log_start_offset: data.offsets.log_start,
            aborted_transactions: data
                .aborted
                .map(|aborted| aborted.iter().map(told_aborted).collect()),
            records: Records::External { len },
            diverging_epoch: data.diverging.map_or_else(EpochEndOffset::default, |(epoch, end)| {
                EpochEndOffset { epoch, end_offset: end }
            }),
            preferred_read_replica: data.preferred.unwrap_or(NO_REPLICA),
            ..PartitionData::default()
        }
    }

    fn failed(&self, response: &mut FetchResponse, part: &Part, code: ErrorCode) -> PartitionData {
        let mut data = PartitionData {
            partition_index: part.wanted.index,
            error_code: code.as_i16(),
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: part.partition.is_err().then(Vec::new),
            ..PartitionData::default()
        };
        let moved = matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
        if moved && self.ctx.api_version >= LEADER_SINCE {
            let name = match (&part.partition, &part.wanted.topic) {
                (Ok(partition), _) => Arc::clone(&partition.id().topic),
                (Err(_), TopicRef::Name(name)) => Arc::clone(name),
                (Err(_), TopicRef::Id(id)) => {
                    let image = self.ctx.broker.image();
                    image.topic_by_id(*id).map_or_else(|| "".into(), |topic| topic.name.clone())
                }
            };
            let hint = self.ctx.current_leader(&name, part.wanted.index);
            data.current_leader = LeaderIdAndEpoch { leader_id: hint.id, leader_epoch: hint.epoch };
            if let Some((host, port)) = hint.endpoint
                && response.node_endpoints.iter().all(|node| node.node_id != hint.id)
            {
                let node = NodeEndpoint { node_id: hint.id, host, port, rack: hint.rack };
                response.node_endpoints.push(node);
            }
        }
        data
    }
}

impl Part {
    fn find(ctx: &RequestContext, wanted: Wanted, asker: Asker) -> Part {
        let mut partition = match &wanted.topic {
            TopicRef::Name(name) => ctx.partition(name, wanted.index),
            TopicRef::Id(id) => ctx.partition_of_id(*id, wanted.index),
        };
        let refused = match (asker, wanted.current_leader_epoch) {
            (Asker::Consumer, _) => None,
            // What a follower says counts for one epoch.
            (Asker::Replica(_) | Asker::Stranger, -1) => Some(ErrorCode::NotLeaderOrFollower),
            (Asker::Replica(_), _) => None,
            (Asker::Stranger, _) => Some(ErrorCode::UnknownLeaderEpoch),
        };
        if let (Some(code), Ok(_)) = (refused, &partition) {
            partition = Err(code);
        }
        Part { wanted, partition }
    }

    /// What is asked for lies in this log, and the last record before it is the same there.
    ///
    /// # Errors
    /// OFFSET_OUT_OF_RANGE where the log knows no epoch as old as the asker's.
    fn compare(&self, reader: &LogReader) -> Result<Option<(i32, i64)>, ErrorCode> {
        let Wanted { fetch_offset, last_fetched_epoch, .. } = self.wanted;
        if last_fetched_epoch < 0 {
            return Ok(None);
        }
        let (epoch, end) = reader.end_offset_for_epoch(last_fetched_epoch);
        if epoch < 0 || end < 0 {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        Ok((epoch < last_fetched_epoch || end < fetch_offset).then_some((epoch, end)))
    }

    async fn read(&self, fetch: &Fetch, left: u64, may_exceed: bool) -> Result<Data, ErrorCode> {
        let partition = self.partition.as_ref().map_err(|code| *code)?;
        // Also one that has waited meanwhile.
        fetch.ctx.broker.check_served()?;
        let known = self.wanted.current_leader_epoch;
        let leads = match partition.check_epoch(known) {
            Ok(_) => true,
            Err(ErrorCode::NotLeaderOrFollower) if fetch.may_follow() => {
                partition.check_followed_epoch(known)?;
                false
            }
            Err(code) => return Err(code),
        };
        let reader = partition.readable()?.ok_or(ErrorCode::KafkaStorageError)?;
        let offsets = partition.offsets();
        let diverging = self.compare(reader)?;
        if diverging.is_some() {
            return Ok(Data { diverging, ..Data::nothing(offsets) });
        }
        if leads && fetch.may_follow() {
            let preferred = preferred(&fetch.ctx, &fetch.rack, self);
            if preferred.is_some() {
                return Ok(Data { preferred, ..Data::nothing(offsets) });
            }
        }
        let bytes_max = u64::try_from(self.wanted.bytes_max).unwrap_or(0).min(left);
        let from = self.wanted.fetch_offset;
        let look = Look { from, bytes_max, offsets, may_exceed, scope: fetch.scope() };
        let read = match look.try_read(reader) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => {
                let reader = reader.clone();
                run_blocking(&*fetch.ctx.broker.env.threads, move || look.read(&reader)).await
            }
            Err(error) => Err(error),
        };
        let (slice, aborted) = read.map_err(|error| {
            if error.code() == ErrorCode::KafkaStorageError {
                warn!(partition = %partition.id(), offset = from, "cannot be read: {error}");
            }
            error.code()
        })?;
        Ok(Data { slice, aborted, ..Data::nothing(offsets) })
    }
}

/// Opens the logs that are not open yet, side by side. What fails is told by the read.
async fn open(parts: &[Part]) {
    let closed: Vec<_> = parts
        .iter()
        .filter_map(|part| part.partition.as_ref().ok())
        .filter(|partition| partition.reader().is_none())
        .map(|partition| partition.open())
        .collect();
    if !closed.is_empty() {
        join_all(closed).await;
    }
}

fn now_ms(ctx: &RequestContext) -> i64 {
    i64::try_from(ctx.broker.env.clock.monotonic().as_millis()).unwrap_or(i64::MAX)
}

fn topic_ref(by_id: bool, name: &str, id: Uuid) -> TopicRef {
    if by_id { TopicRef::Id(id) } else { TopicRef::Name(name.into()) }
}

fn wanted(by_id: bool, topic: FetchTopic) -> impl Iterator<Item = Wanted> {
    let of = topic_ref(by_id, &topic.topic, topic.topic_id);
    topic.partitions.into_iter().map(move |part: FetchPartition| Wanted {
        topic: of.clone(),
        index: part.partition,
        fetch_offset: part.fetch_offset,
        bytes_max: part.partition_max_bytes,
        current_leader_epoch: part.current_leader_epoch,
        last_fetched_epoch: part.last_fetched_epoch,
        log_start_offset: part.log_start_offset,
    })
}

fn told_aborted(aborted: &Aborted) -> AbortedTransaction {
    let Aborted { producer_id, first_offset, .. } = *aborted;
    AbortedTransaction { producer_id, first_offset }
}

fn told(result: &Result<Data, ErrorCode>) -> Told {
    match result {
        Ok(data) => Told {
            error: ErrorCode::None,
            high_watermark: data.offsets.high_watermark,
            log_start_offset: data.offsets.log_start,
            has_records: !data.slice.is_empty() || data.is_urgent(),
        },
        Err(error) => {
            Told { error: *error, high_watermark: -1, log_start_offset: -1, has_records: false }
        }
    }
}
