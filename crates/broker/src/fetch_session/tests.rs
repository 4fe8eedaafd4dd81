use super::*;

fn wanted(topic: &str, index: i32, fetch_offset: i64) -> Wanted {
    Wanted {
        topic: TopicRef::Name(topic.into()),
        index,
        fetch_offset,
        bytes_max: 1024,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
    }
}

fn told(high_watermark: i64) -> Told {
    Told { error: ErrorCode::None, high_watermark, log_start_offset: 0, has_records: false }
}

fn serve(all: Vec<Wanted>, high_watermark: i64) -> Vec<(Wanted, Told)> {
    all.into_iter().map(|wanted| (wanted, told(high_watermark))).collect()
}

/// Opens a session on partitions 0 to `count` - 1 and answers its id.
fn open(sessions: &FetchSessions, now_ms: i64, id: i32, count: i32) -> i32 {
    let all = (0..count).map(|index| wanted("t", index, 0)).collect();
    let (context, all) = sessions.begin(now_ms, (0, 0), false, all, &[]).expect("new");
    let answer = sessions.finish(now_ms, || id, &context, 0, &serve(all, 5));
    answer.expect("told").0
}

#[test]
fn a_session_answers_only_what_changed() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 0, 7, 2);
    assert_eq!(id, 7);
    let (context, all) = sessions.begin(1, (id, 1), false, vec![], &[]).expect("known");
    assert_eq!(all.len(), 2);
    let mut served = serve(all, 5);
    served[1].1.high_watermark = 6;
    let (same, kept) = sessions.finish(1, || 1, &context, 1, &served).expect("told");
    assert_eq!((same, kept), (id, vec![false, true]));
}

#[test]
fn a_partition_that_had_records_is_served_last_next_time() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 0, 7, 3);
    let (context, all) = sessions.begin(1, (id, 1), false, vec![], &[]).expect("known");
    let mut served = serve(all, 5);
    served[0].1.has_records = true;
    sessions.finish(1, || 1, &context, 1, &served).expect("told");
    let (_, all) = sessions.begin(2, (id, 2), false, vec![], &[]).expect("known");
    assert_eq!(all.iter().map(|wanted| wanted.index).collect::<Vec<_>>(), [1, 2, 0]);
}

#[test]
fn an_error_is_told_and_its_end_too() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 0, 7, 1);
    for (epoch, error) in [(1, ErrorCode::NotLeaderOrFollower), (2, ErrorCode::None)] {
        let (context, all) = sessions.begin(1, (id, epoch), false, vec![], &[]).expect("known");
        let mut served = serve(all, 5);
        served[0].1.error = error;
        let (_, kept) = sessions.finish(1, || 1, &context, epoch, &served).expect("told");
        assert_eq!(kept, [true], "epoch {epoch}");
    }
}

#[test]
fn offsets_are_updated_and_partitions_forgotten() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 0, 7, 2);
    let forgotten = [(TopicRef::Name("t".into()), 0)];
    let (_, all) =
        sessions.begin(1, (id, 1), false, vec![wanted("t", 1, 42)], &forgotten).expect("known");
    assert_eq!(all, [wanted("t", 1, 42)]);
}

#[test]
fn a_session_without_partitions_ends() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 0, 7, 1);
    let forgotten = [(TopicRef::Name("t".into()), 0)];
    let (context, all) = sessions.begin(1, (id, 1), false, vec![], &forgotten).expect("known");
    assert!(matches!(context, FetchContext::Sessionless) && all.is_empty());
    let gone = sessions.begin(2, (id, 2), false, vec![], &[]).err();
    assert_eq!(gone, Some(ErrorCode::FetchSessionIdNotFound));
}

#[test]
fn wrong_ids_epochs_and_forms_are_refused() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 0, 7, 1);
    let begin = |id, epoch, by_id| sessions.begin(1, (id, epoch), by_id, vec![], &[]).err();
    assert_eq!(begin(id + 1, 1, false), Some(ErrorCode::FetchSessionIdNotFound));
    assert_eq!(begin(id, 2, false), Some(ErrorCode::InvalidFetchSessionEpoch));
    assert_eq!(begin(id, 1, true), Some(ErrorCode::FetchSessionTopicIdError));
    assert_eq!(begin(id, 1, false), None);
}

#[test]
fn a_full_fetch_with_an_id_ends_that_session() {
    for epoch in [EPOCH_NEW, EPOCH_NONE] {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions, 0, 7, 1);
        sessions.begin(1, (id, epoch), false, vec![], &[]).expect("full");
        let gone = sessions.begin(2, (id, 1), false, vec![], &[]).err();
        assert_eq!(gone, Some(ErrorCode::FetchSessionIdNotFound));
    }
}

#[test]
fn a_duplicate_request_does_not_answer_for_the_session() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 0, 7, 1);
    let (first, all) = sessions.begin(1, (id, 1), false, vec![], &[]).expect("known");
    sessions.begin(1, (id, 2), false, vec![], &[]).expect("known");
    let late = sessions.finish(1, || 1, &first, 1, &serve(all, 5));
    assert_eq!(late, Err((ErrorCode::InvalidFetchSessionEpoch, id)));
}

#[test]
fn a_full_cache_keeps_what_is_in_use_and_gives_up_what_is_not() {
    let sessions = FetchSessions::new(2);
    assert_eq!(open(&sessions, 0, 1, 1), 1);
    assert_eq!(open(&sessions, 0, 2, 5), 2);
    assert_eq!(open(&sessions, 10, 3, 9), NO_SESSION, "both are young and in use");
    sessions.begin(EVICTION_MS + 5, (1, 1), false, vec![], &[]).expect("known");
    sessions.begin(EVICTION_MS + 5, (2, 1), false, vec![], &[]).expect("known");
    assert_eq!(open(&sessions, EVICTION_MS + 6, 4, 1), 4, "the smaller one has had its time");
    assert_eq!(open(&sessions, EVICTION_MS + 7, 5, 3), NO_SESSION, "smaller than session 2");
    assert_eq!(open(&sessions, 3 * EVICTION_MS, 6, 1), 6, "nobody has used session 4 or 2");
}

#[test]
fn a_session_that_grows_beyond_its_bound_ends() {
    let sessions = FetchSessions::new(10);
    let most = i32::try_from(SESSION_PARTITIONS_MAX).expect("fits");
    assert_eq!(open(&sessions, 0, 7, most + 1), NO_SESSION);
    assert_eq!(open(&sessions, 0, 7, most), 7);
    let more = vec![wanted("another", 0, 0)];
    let refused = sessions.begin(1, (7, 1), false, more, &[]).err();
    assert_eq!(refused, Some(ErrorCode::FetchSessionIdNotFound));
    let gone = sessions.begin(2, (7, 1), false, vec![], &[]).err();
    assert_eq!(gone, Some(ErrorCode::FetchSessionIdNotFound));
}
