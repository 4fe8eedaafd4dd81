use klamm_protocol::messages::FetchRequest;
use klamm_protocol::messages::fetch::ForgottenTopic;

use crate::broker::start;
use crate::socket::{batch, fetch_partition, fetch_request, records};

/// A fetch of no partition, within session `id` at `epoch`.
fn within(id: i32, epoch: i32) -> FetchRequest {
    FetchRequest {
        session_id: id,
        session_epoch: epoch,
        topics: vec![],
        ..fetch_request("t", 0, 0, 0)
    }
}

#[test]
fn a_session_tells_only_what_changed() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 3, &[]);
    let mut socket = broker.connect();
    let mut first = fetch_request("t", 0, 0, 0);
    first.session_epoch = 0;
    first.topics[0].partitions.push(fetch_partition(1, 0));
    let opened = socket.call(12, &first);
    assert!(opened.session_id > 0);
    assert_eq!(opened.responses[0].partitions.len(), 2);

    let nothing = socket.call(12, &within(opened.session_id, 1));
    assert_eq!((nothing.session_id, nothing.responses.len()), (opened.session_id, 0));

    socket.produce("t", 1, -1, batch(&[b"x"]));
    let news = socket.call(12, &within(opened.session_id, 2));
    let parts = &news.responses[0].partitions;
    assert_eq!((parts.len(), parts[0].partition_index), (1, 1));
    assert_eq!(records(&parts[0]).len(), 1);

    let mut fewer = within(opened.session_id, 3);
    fewer.forgotten_topics_data =
        vec![ForgottenTopic { topic: "t".to_owned(), partitions: vec![1], ..Default::default() }];
    assert_eq!(socket.call(12, &fewer).responses.len(), 0);
}

#[test]
fn wrong_sessions_are_refused_by_name() {
    let (_dir, broker) = start(&[]);
    let topic_id = broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    let mut first = fetch_request("t", 0, 0, 0);
    first.session_epoch = 0;
    let id = socket.call(12, &first).session_id;
    for (id, epoch, version, code) in [(id, 5, 12, 71), (id ^ 1, 1, 12, 70), (id, 1, 13, 106)] {
        let answer = socket.call(version, &within(id, epoch));
        assert_eq!((answer.error_code, answer.session_id), (code, 0), "epoch {epoch}");
    }
    let mut by_id = fetch_request("", 0, 0, 0);
    by_id.topics[0].topic_id = topic_id;
    by_id.session_epoch = 0;
    assert!(socket.call(13, &by_id).session_id > 0);
}

#[test]
fn without_slots_every_fetch_is_full() {
    let (_dir, broker) = start(&[("max.incremental.fetch.session.cache.slots", "0")]);
    broker.topic("t", 1, &[]);
    let mut first = fetch_request("t", 0, 0, 0);
    first.session_epoch = 0;
    let answer = broker.connect().call(12, &first);
    assert_eq!((answer.error_code, answer.session_id, answer.responses.len()), (0, 0, 1));
}
