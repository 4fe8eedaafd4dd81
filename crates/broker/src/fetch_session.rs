//! Incremental fetch sessions (KIP-227): which partitions a consumer follows and what it was told
//! last, so that a poll names and answers only what has changed.
//!
//! The cache is bounded in sessions, a session in partitions: with more the client goes on without
//! one. What is not used for [`EVICTION_MS`] makes place first, then a session smaller than the new one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use klamm_protocol::ErrorCode;
use uuid::Uuid;

/// Idle time after which a session makes place for any other, and age from which it makes place
/// for a larger one.
const EVICTION_MS: i64 = 120_000;
/// The epoch that asks for a new session.
const EPOCH_NEW: i32 = 0;
/// The epoch that ends a session or does without.
const EPOCH_NONE: i32 = -1;
/// Partitions of one session at most: as many as a cluster is made for.
const SESSION_PARTITIONS_MAX: usize = 100_000;
/// The id that stands for no session.
pub(crate) const NO_SESSION: i32 = 0;

/// A topic as the request named it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicRef {
    /// Up to version 12.
    Name(Arc<str>),
    /// From version 13 on.
    Id(Uuid),
}

/// What a client wants of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The topic.
    pub topic: TopicRef,
    /// The partition's number.
    pub index: i32,
    /// First offset asked for.
    pub fetch_offset: i64,
    /// Most bytes of this partition.
    pub bytes_max: i32,
    /// The leader epoch that the client knows, -1 for none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record that the client holds, -1 where it does not say: its log is compared
    /// with this one there.
    pub last_fetched_epoch: i32,
    /// First offset of a follower's log, -1 from a consumer.
    pub log_start_offset: i64,
}

/// What a session is told of one partition's answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// The partition's error.
    pub error: ErrorCode,
    /// The high watermark in the answer.
    pub high_watermark: i64,
    /// The log start in the answer.
    pub log_start_offset: i64,
    /// Whether records go along, or something else that the client has to hear.
    pub has_records: bool,
}

/// How a fetch is to be answered.
pub(crate) enum FetchContext {
    /// In full, without a session.
    Sessionless,
    /// In full, and the client would like a session.
    New {
        /// Whether it names topics by id.
        by_id: bool,
    },
    /// Only what has changed.
    Incremental(Arc<Mutex<Session>>),
}

impl FetchContext {
    /// The high watermark that the client was told last of each of these partitions, -1 for none;
    /// `None` where no session remembers it.
    pub(crate) fn told_high_watermarks(&self, wanted: &[Wanted]) -> Option<Vec<i64>> {
        let FetchContext::Incremental(session) = self else { return None };
        let session = session.lock().expect("no panic while locked");
        let told = |wanted: &Wanted| {
            let turn = session.turns.get(&(wanted.topic.clone(), wanted.index));
            let cached = turn.and_then(|turn| session.in_turn.get(turn));
            cached.map_or(-1, |cached| cached.high_watermark)
        };
        Some(wanted.iter().map(told).collect())
    }
}

struct Cached {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
}

/// One client's session.
pub(crate) struct Session {
    id: i32,
    /// The epoch that the next request must carry.
    epoch: i32,
    by_id: bool,
    created_ms: i64,
    used_ms: i64,
    /// In the order in which they are to be served.
    in_turn: BTreeMap<u64, Cached>,
    turns: HashMap<(TopicRef, i32), u64>,
    next_turn: u64,
}

impl Session {
    fn put(&mut self, wanted: Wanted) {
        let key = (wanted.topic.clone(), wanted.index);
        if let Some(cached) = self.turns.get(&key).and_then(|turn| self.in_turn.get_mut(turn)) {
            cached.wanted = wanted;
            return;
        }
        self.append(key, Cached { wanted, high_watermark: -1, log_start_offset: -1 });
    }

    fn append(&mut self, key: (TopicRef, i32), cached: Cached) {
        self.turns.insert(key, self.next_turn);
        self.in_turn.insert(self.next_turn, cached);
        self.next_turn += 1;
    }

    fn forget(&mut self, key: &(TopicRef, i32)) {
        if let Some(turn) = self.turns.remove(key) {
            self.in_turn.remove(&turn);
        }
    }

    /// Whether the client has to hear of this partition; remembers what it is told, and puts a
    /// partition that had records behind all others.
    fn tell(&mut self, key: &(TopicRef, i32), told: &Told) -> bool {
        let Some(cached) = self.turns.get(key).and_then(|turn| self.in_turn.get_mut(turn)) else {
            return true;
        };
        let failed = told.error != ErrorCode::None;
        let changed = cached.high_watermark != told.high_watermark
            || cached.log_start_offset != told.log_start_offset;
        // After an error the partition is told again in full, whatever it was before.
        cached.high_watermark = if failed { -1 } else { told.high_watermark };
        cached.log_start_offset = told.log_start_offset;
        if told.has_records
            && let Some(turn) = self.turns.remove(key)
            && let Some(cached) = self.in_turn.remove(&turn)
        {
            self.append(key.clone(), cached);
        }
        failed || changed || told.has_records
    }

    fn use_key(&self) -> (i64, i32) {
        (self.used_ms, self.id)
    }
}

#[derive(Default)]
struct Cache {
    sessions: HashMap<i32, Arc<Mutex<Session>>>,
    by_use: BTreeSet<(i64, i32)>,
}

/// The sessions of all clients (`max.incremental.fetch.session.cache.slots`).
pub(crate) struct FetchSessions {
    cache: Mutex<Cache>,
    slots: usize,
}

impl FetchSessions {
    /// A cache for `slots` sessions.
    pub(crate) fn new(slots: usize) -> FetchSessions {
        FetchSessions { cache: Mutex::default(), slots }
    }

    /// Reads a request's session fields: how to answer it, and the partitions to serve, in order.
    ///
    /// # Errors
    /// When the session is unknown or not where the client thinks it is.
    pub(crate) fn begin(
        &self,
        now_ms: i64,
        (id, epoch): (i32, i32),
        by_id: bool,
        wanted: Vec<Wanted>,
        forgotten: &[(TopicRef, i32)],
    ) -> Result<(FetchContext, Vec<Wanted>), ErrorCode> {
        let mut cache = self.cache.lock().expect("no panic while locked");
        if epoch == EPOCH_NEW || epoch == EPOCH_NONE {
            cache.remove(id);
            let context = match epoch {
                EPOCH_NEW => FetchContext::New { by_id },
                _ => FetchContext::Sessionless,
            };
            return Ok((context, wanted));
        }
        let found = cache.sessions.get(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let found = Arc::clone(found);
        let mut session = found.lock().expect("no panic while locked");
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for wanted in &wanted {
            session.put(wanted.clone());
        }
        for key in forgotten {
            session.forget(key);
        }
        if session.in_turn.len() > SESSION_PARTITIONS_MAX {
            cache.by_use.remove(&session.use_key());
            cache.sessions.remove(&id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        if session.in_turn.is_empty() {
            drop(session);
            cache.remove(id);
            return Ok((FetchContext::Sessionless, wanted));
        }
        cache.by_use.remove(&session.use_key());
        session.used_ms = now_ms;
        cache.by_use.insert(session.use_key());
        session.epoch = next_epoch(epoch);
        let all = session.in_turn.values().map(|cached| cached.wanted.clone()).collect();
        drop(session);
        Ok((FetchContext::Incremental(found), all))
    }

    /// Decides what of a finished fetch is sent: the session id of the answer, and for each
    /// partition whether it is in it. `served` stands in the order of the answer.
    ///
    /// # Errors
    /// When another request has moved the session on in the meantime; the answer carries the id.
    pub(crate) fn finish(
        &self,
        now_ms: i64,
        random_id: impl FnMut() -> i32,
        context: &FetchContext,
        request_epoch: i32,
        served: &[(Wanted, Told)],
    ) -> Result<(i32, Vec<bool>), (ErrorCode, i32)> {
        match context {
            FetchContext::Sessionless => Ok((NO_SESSION, vec![true; served.len()])),
            FetchContext::New { by_id } => {
                let id = if served.is_empty() || served.len() > SESSION_PARTITIONS_MAX {
                    NO_SESSION
                } else {
                    self.create(now_ms, random_id, *by_id, served)
                };
                Ok((id, vec![true; served.len()]))
            }
            FetchContext::Incremental(session) => {
                let mut session = session.lock().expect("no panic while locked");
                if session.epoch != next_epoch(request_epoch) {
                    return Err((ErrorCode::InvalidFetchSessionEpoch, session.id));
                }
                let tell = |(wanted, told): &(Wanted, Told)| {
                    session.tell(&(wanted.topic.clone(), wanted.index), told)
                };
                let kept = served.iter().map(tell).collect();
                Ok((session.id, kept))
            }
        }
    }

    fn create(
        &self,
        now_ms: i64,
        mut random_id: impl FnMut() -> i32,
        by_id: bool,
        served: &[(Wanted, Told)],
    ) -> i32 {
        let mut cache = self.cache.lock().expect("no panic while locked");
        if cache.sessions.len() >= self.slots && !cache.make_place(now_ms, served.len()) {
            return NO_SESSION;
        }
        let id = loop {
            let id = random_id() & i32::MAX;
            if id != NO_SESSION && !cache.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            id,
            epoch: next_epoch(EPOCH_NEW),
            by_id,
            created_ms: now_ms,
            used_ms: now_ms,
            in_turn: BTreeMap::new(),
            turns: HashMap::new(),
            next_turn: 0,
        };
        for (wanted, told) in served {
            session.put(wanted.clone());
            session.tell(&(wanted.topic.clone(), wanted.index), told);
        }
        cache.by_use.insert(session.use_key());
        cache.sessions.insert(id, Arc::new(Mutex::new(session)));
        id
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_use.remove(&session.lock().expect("no panic while locked").use_key());
        }
    }

    /// Evicts a session for one of `partitions` partitions, if any is worth less.
    fn make_place(&mut self, now_ms: i64, partitions: usize) -> bool {
        let Some(&(used_ms, oldest)) = self.by_use.first() else { return false };
        if now_ms.saturating_sub(used_ms) > EVICTION_MS {
            self.remove(oldest);
            return true;
        }
        let smallest = self
            .by_use
            .iter()
            .filter_map(|(_, id)| {
                let session = self.sessions.get(id)?.lock().expect("no panic while locked");
                let settled = now_ms.saturating_sub(session.created_ms) > EVICTION_MS;
                settled.then(|| (session.in_turn.len(), session.id))
            })
            .min();
        match smallest {
            Some((size, id)) if size <= partitions => {
                self.remove(id);
                true
            }
            _ => false,
        }
    }
}

/// Epochs run from 1 and never come back to the one that asks for a new session.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests;
