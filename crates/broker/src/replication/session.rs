//! A follower's side of an incremental fetch session (KIP-227): each request names only what has
//! changed since the last one. Pure.

use std::collections::BTreeMap;

use klamm_protocol::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic};
use uuid::Uuid;

/// A partition by topic id and number.
pub(crate) type Key = (Uuid, i32);

/// The session's fields of a request.
#[derive(Debug)]
pub(crate) struct Asked {
    /// 0 for none yet.
    pub session_id: i32,
    /// 0 asks for a session.
    pub session_epoch: i32,
    /// What is new or has changed.
    pub topics: Vec<FetchTopic>,
    /// What is not followed any more, or not for now.
    pub forgotten: Vec<ForgottenTopic>,
}

/// What the leader knows of this follower's wishes.
#[derive(Debug, Default)]
pub(crate) struct FetchSession {
    id: i32,
    epoch: i32,
    known: BTreeMap<Key, FetchPartition>,
}

impl FetchSession {
    /// The request for `wanted`, all that is to be fetched now. What is new to the leader comes in
    /// `turn`, and is served in that order.
    pub(crate) fn ask<T: Ord>(
        &mut self,
        wanted: BTreeMap<Key, FetchPartition>,
        turn: impl Fn(&Key) -> T,
    ) -> Asked {
        if self.id == 0 {
            self.known.clear();
        }
        let news = wanted.iter().filter(|(key, now)| self.known.get(*key) != Some(now));
        let mut news: Vec<_> = news.collect();
        news.sort_by_key(|(key, _)| turn(key));
        let mut topics: Vec<FetchTopic> = Vec::new();
        for ((topic_id, _), now) in news {
            match topics.last_mut() {
                Some(last) if last.topic_id == *topic_id => last.partitions.push(now.clone()),
                _ => topics.push(FetchTopic {
                    topic_id: *topic_id,
                    partitions: vec![now.clone()],
                    ..FetchTopic::default()
                }),
            }
        }
        let gone = self.known.keys().filter(|key| !wanted.contains_key(*key));
        let mut forgotten: Vec<ForgottenTopic> = Vec::new();
        for (topic_id, index) in gone {
            match forgotten.last_mut() {
                Some(last) if last.topic_id == *topic_id => last.partitions.push(*index),
                _ => forgotten.push(ForgottenTopic {
                    topic_id: *topic_id,
                    partitions: vec![*index],
                    ..ForgottenTopic::default()
                }),
            }
        }
        self.known = wanted;
        Asked { session_id: self.id, session_epoch: self.epoch, topics, forgotten }
    }

    /// The leader has answered in session `id`, 0 for none.
    pub(crate) fn answered(&mut self, id: i32) {
        self.epoch = match (id, self.epoch) {
            (0, _) | (_, i32::MAX) => 0,
            (_, epoch) => epoch + 1,
        };
        self.id = if self.epoch == 0 { 0 } else { id };
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        *self = FetchSession::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> FetchPartition {
        FetchPartition { fetch_offset: offset, ..FetchPartition::default() }
    }

    fn ask<const N: usize>(
        session: &mut FetchSession,
        wanted: [(Key, FetchPartition); N],
    ) -> Asked {
        session.ask(wanted.into(), |_| ())
    }

    fn named(asked: &Asked) -> usize {
        asked.topics.iter().map(|topic| topic.partitions.len()).sum()
    }

    #[test]
    fn only_what_has_changed_is_named() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut session = FetchSession::default();
        let first = ask(&mut session, [((one, 0), at(5)), ((one, 1), at(5)), ((two, 0), at(5))]);
        assert_eq!((first.session_id, first.session_epoch, named(&first)), (0, 0, 3));
        assert_eq!(first.topics.len(), 2);
        session.answered(77);
        let next = ask(&mut session, [((one, 0), at(5)), ((one, 1), at(6))]);
        assert_eq!((next.session_id, next.session_epoch, named(&next)), (77, 1, 1));
        assert_eq!(next.forgotten.len(), 1);
        session.answered(77);
        let same = ask(&mut session, [((one, 0), at(5)), ((one, 1), at(6))]);
        assert_eq!((same.session_epoch, named(&same), same.forgotten.len()), (2, 0, 0));
    }

    #[test]
    fn without_a_session_everything_is_named_again() {
        let topic = Uuid::from_u128(1);
        let mut session = FetchSession::default();
        ask(&mut session, [((topic, 0), at(5))]);
        session.answered(0);
        let again = ask(&mut session, [((topic, 0), at(5))]);
        assert_eq!((again.session_id, again.session_epoch, named(&again)), (0, 0, 1));
        session.answered(9);
        session.reset();
        let anew = ask(&mut session, [((topic, 0), at(5))]);
        assert_eq!((anew.session_id, anew.session_epoch, named(&anew)), (0, 0, 1));
    }

    #[test]
    fn what_the_leader_does_not_know_is_named_in_turn() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let of = |index| FetchPartition { partition: index, ..at(5) };
        let wanted = [((one, 0), of(0)), ((one, 1), of(1)), ((one, 2), of(2)), ((two, 0), of(0))];
        let served_last = [(one, 1), (two, 0), (one, 0)];
        let turn = |key: &Key| served_last.iter().position(|served| served == key);
        let asked = FetchSession::default().ask(wanted.into(), turn);
        let of = |topic: &FetchTopic| {
            let partitions = topic.partitions.iter().map(|partition| partition.partition);
            (topic.topic_id, partitions.collect::<Vec<_>>())
        };
        let named: Vec<_> = asked.topics.iter().map(of).collect();
        assert_eq!(named, [(one, vec![2, 1]), (two, vec![0]), (one, vec![0])]);
    }
}
