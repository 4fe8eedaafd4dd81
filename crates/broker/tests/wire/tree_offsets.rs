//! `offsets.storage=zookeeper`: committed offsets are nodes of the tree, in Kafka's old form.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use klamm_cluster::tree::embedded::EmbeddedHome;
use klamm_cluster::tree::{CreateMode, Home as _, Tree};
use klamm_env::{Env, Loop};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::delete_topics::DeleteTopicState;
use klamm_protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm_protocol::messages::offset_delete::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use klamm_protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use klamm_protocol::messages::{
    DeleteGroupsRequest, DeleteTopicsRequest, FindCoordinatorRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};

use crate::broker::{TestBroker, eventually, start, try_start};
use crate::cluster::Cluster;
use crate::socket::Socket;

const IN_TREE: (&str, &str) = ("offsets.storage", "zookeeper");

/// A commit of somebody who is no member.
fn commit_request(group: &str, topic: &str, offsets: &[(i32, i64)]) -> OffsetCommitRequest {
    let partition = |(index, offset): &(i32, i64)| OffsetCommitRequestPartition {
        partition_index: *index,
        committed_offset: *offset,
        committed_leader_epoch: 3,
        committed_metadata: Some("note".to_owned()),
    };
    OffsetCommitRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: offsets.iter().map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn commit(socket: &mut Socket, request: &OffsetCommitRequest) -> ErrorCode {
    let response = socket.call(8, request);
    let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
    let mut codes: Vec<i16> = codes.map(|partition| partition.error_code).collect();
    codes.dedup();
    assert_eq!(codes.len(), 1, "{response:?}");
    ErrorCode::from_i16(codes[0]).expect("a known code")
}

/// Makes the coordinator of a group be there; answers its id.
fn find_coordinator(socket: &mut Socket, group: &str) -> i32 {
    let mut node = -1;
    eventually("a coordinator", || {
        let request = FindCoordinatorRequest { key: group.to_owned(), ..Default::default() };
        let response = socket.call(3, &request);
        node = response.node_id;
        response.error_code == 0
    });
    node
}

/// Partition, offset, leader epoch and metadata of what is asked for; an error otherwise.
fn fetch(
    socket: &mut Socket,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<(i32, i64, i32, String)>, ErrorCode> {
    let topics = OffsetFetchRequestTopics {
        name: topic.to_owned(),
        partition_indexes: partitions.to_vec(),
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: group.to_owned(),
        topics: Some(vec![topics]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let response = socket.call(8, &request);
    let group = &response.groups[0];
    if group.error_code != 0 {
        return Err(ErrorCode::from_i16(group.error_code).expect("a known code"));
    }
    let partitions = group.topics[0].partitions.iter();
    Ok(partitions
        .map(|it| {
            let metadata = it.metadata.clone().unwrap_or_default();
            (it.partition_index, it.committed_offset, it.committed_leader_epoch, metadata)
        })
        .collect())
}

fn offset(socket: &mut Socket, group: &str, topic: &str) -> i64 {
    fetch(socket, group, topic, &[0]).expect("an answer")[0].1
}

/// What is in a tree.
struct ByHand {
    runtime: tokio::runtime::Runtime,
    tree: Arc<dyn Tree>,
    _on: Option<Loop>,
}

impl ByHand {
    /// The tree of a broker that does not run.
    fn of(dir: &Path) -> ByHand {
        let env = Env::real().expect("an environment");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let on = env.threads.start_loops("tree", 1).expect("a thread").pop().expect("one loop");
        let home = runtime.block_on(EmbeddedHome::open(&env, dir.join("klamm.tree"), &on));
        let tree = runtime.block_on(home.expect("opened").connect()).expect("a session");
        ByHand { runtime, tree, _on: Some(on) }
    }

    fn of_cluster(cluster: &Cluster) -> ByHand {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tree = runtime.block_on(cluster.home().connect()).expect("a session");
        ByHand { runtime, tree, _on: None }
    }

    fn get(&self, path: &str) -> Option<String> {
        let node = self.runtime.block_on(self.tree.find(path)).expect("an answer")?;
        Some(String::from_utf8(node.data.to_vec()).expect("text"))
    }

    /// As with ZooKeeper's shell: `create` where it is missing, `set` where it is not.
    fn put(&self, path: &str, text: &'static str) {
        self.runtime.block_on(async {
            let mut above = 0;
            while let Some(next) = path[above + 1..].find('/') {
                above += 1 + next;
                let folder = &path[..above];
                let _ = self.tree.create(folder, Bytes::new(), CreateMode::Persistent).await;
            }
            let data = Bytes::from_static(text.as_bytes());
            if self.tree.set(path, data.clone(), None).await.is_err() {
                self.tree.create(path, data, CreateMode::Persistent).await.expect("made");
            }
        });
    }
}

fn restarted(dir: &Path, set: &[(&str, &str)]) -> TestBroker {
    try_start(dir, set).expect("restarts")
}

#[test]
fn a_commit_is_a_node_that_old_tools_read_and_outlives_the_broker() {
    let (dir, broker) = start(&[IN_TREE]);
    broker.topic("t", 2, &[]);
    let mut socket = broker.connect();
    find_coordinator(&mut socket, "g");
    assert_eq!(fetch(&mut socket, "g", "t", &[0]).unwrap()[0].1, -1);
    assert_eq!(commit(&mut socket, &commit_request("g", "t", &[(0, 41), (1, 7)])), ErrorCode::None);
    assert_eq!(commit(&mut socket, &commit_request("g", "t", &[(0, 42)])), ErrorCode::None);
    let committed = [(0, 42, 3, "note".to_owned()), (1, 7, 3, "note".to_owned())];
    assert_eq!(fetch(&mut socket, "g", "t", &[0, 1]).unwrap(), committed);
    drop(socket);
    broker.stop();
    let tree = ByHand::of(dir.path());
    assert_eq!(tree.get("/consumers/g/offsets/t/0").as_deref(), Some("42"));
    let details = tree.get("/consumers/g/offsets/t/0/details").expect("there");
    assert!(details.contains(r#""leader_epoch":3,"metadata":"note""#), "{details}");
    drop(tree);
    let broker = restarted(dir.path(), &[IN_TREE]);
    let mut socket = broker.connect();
    assert_eq!(fetch(&mut socket, "g", "t", &[0, 1]).unwrap(), committed);
}

#[test]
fn nodes_made_by_hand_are_honoured() {
    let (dir, broker) = start(&[IN_TREE]);
    broker.topic("t", 1, &[]);
    find_coordinator(&mut broker.connect(), "g");
    broker.stop();
    ByHand::of(dir.path()).put("/consumers/g/offsets/t/0", "1234");
    let broker = restarted(dir.path(), &[IN_TREE]);
    let mut socket = broker.connect();
    let expected = vec![(0, 1234, -1, String::new())];
    assert_eq!(fetch(&mut socket, "g", "t", &[0]), Ok(expected));
    let listed = socket.call(4, &ListGroupsRequest::default());
    assert_eq!(listed.groups.len(), 1, "{listed:?}");
    assert_eq!(commit(&mut socket, &commit_request("g", "t", &[(0, 1235)])), ErrorCode::None);
    assert_eq!(offset(&mut socket, "g", "t"), 1235);
}

#[test]
fn names_of_all_kinds_are_kept_apart() {
    let (dir, broker) = start(&[IN_TREE]);
    broker.topic("t", 1, &[]);
    let groups = ["", "a/b", "..", "gruppe ü", "\u{1f600}", "%"];
    let mut socket = broker.connect();
    find_coordinator(&mut socket, "g");
    for (group, offset) in groups.iter().zip(1..) {
        let request = commit_request(group, "t", &[(0, offset)]);
        assert_eq!(commit(&mut socket, &request), ErrorCode::None, "{group:?}");
    }
    let long = commit_request(&"g".repeat(4000), "t", &[(0, 1)]);
    assert_eq!(commit(&mut socket, &long), ErrorCode::InvalidGroupId);
    assert_eq!(offset(&mut socket, &"g".repeat(4000), "t"), -1);
    drop(socket);
    broker.stop();
    let broker = restarted(dir.path(), &[IN_TREE]);
    let mut socket = broker.connect();
    for (group, expected) in groups.iter().zip(1..) {
        assert_eq!(offset(&mut socket, group, "t"), expected, "{group:?}");
    }
}

#[test]
fn the_longest_metadata_fits() {
    let (_dir, broker) = start(&[IN_TREE, ("offset.metadata.max.bytes", "1000000")]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    find_coordinator(&mut socket, "g");
    let longest = "\u{1}".repeat(32_767);
    let mut request = commit_request("g", "t", &[(0, 1)]);
    request.topics[0].partitions[0].committed_metadata = Some(longest.clone());
    assert_eq!(commit(&mut socket, &request), ErrorCode::None);
    assert_eq!(fetch(&mut socket, "g", "t", &[0]).unwrap()[0].3, longest);
}

#[test]
fn many_commits_in_flight_are_all_acknowledged() {
    let (_dir, broker) = start(&[IN_TREE]);
    broker.topic("t", 500, &[]);
    let mut socket = broker.connect();
    find_coordinator(&mut socket, "g");
    let all = |offset: i64| -> Vec<(i32, i64)> { (0..500).map(|index| (index, offset)).collect() };
    for offset in 0..20 {
        socket.send(8, &commit_request("g", "t", &all(offset)));
    }
    for _ in 0..20 {
        let (_, response) = socket.receive::<OffsetCommitRequest>(8);
        assert!(response.topics[0].partitions.iter().all(|it| it.error_code == 0));
    }
    let partitions: Vec<i32> = (0..500).collect();
    let fetched = fetch(&mut socket, "g", "t", &partitions).unwrap();
    assert!(fetched.iter().all(|(_, offset, ..)| *offset == 19), "{fetched:?}");
}

#[test]
fn what_is_deleted_leaves_no_node() {
    let (dir, broker) = start(&[IN_TREE]);
    for topic in ["t", "u", "gone"] {
        broker.topic(topic, 1, &[]);
    }
    let mut socket = broker.connect();
    for group in ["g", "h"] {
        find_coordinator(&mut socket, group);
        for topic in ["t", "u", "gone"] {
            let request = commit_request(group, topic, &[(0, 5)]);
            assert_eq!(commit(&mut socket, &request), ErrorCode::None);
        }
    }
    let delete = OffsetDeleteRequest {
        group_id: "g".to_owned(),
        topics: vec![OffsetDeleteRequestTopic {
            name: "u".to_owned(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let deleted = socket.call(0, &delete);
    assert_eq!((deleted.error_code, deleted.topics[0].partitions[0].error_code), (0, 0));
    assert_eq!(offset(&mut socket, "g", "u"), -1);
    let delete = DeleteGroupsRequest { groups_names: vec!["h".to_owned()] };
    assert_eq!(socket.call(2, &delete).results[0].error_code, 0);
    let listed = socket.call(4, &ListGroupsRequest::default()).groups;
    assert_eq!(listed.iter().map(|group| group.group_id.as_str()).collect::<Vec<_>>(), ["g"]);
    assert_eq!(socket.call(2, &delete).results[0].error_code, ErrorCode::GroupIdNotFound.as_i16());
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("gone".to_owned()), ..Default::default() }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(socket.call(6, &delete).responses[0].error_code, 0);
    eventually("offsets in the deleted topic go", || offset(&mut socket, "g", "gone") == -1);
    drop(socket);
    broker.stop();
    let tree = ByHand::of(dir.path());
    assert_eq!(tree.get("/consumers/g/offsets/t/0").as_deref(), Some("5"));
    for gone in ["/consumers/g/offsets/u", "/consumers/g/offsets/gone", "/consumers/h"] {
        assert_eq!(tree.get(gone), None, "{gone}");
    }
}

#[test]
fn offsets_expire() {
    let (dir, broker) = start(&[IN_TREE, ("offsets.retention.check.interval.ms", "50")]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    find_coordinator(&mut socket, "short");
    assert_eq!(commit(&mut socket, &commit_request("long", "t", &[(0, 5)])), ErrorCode::None);
    let request =
        OffsetCommitRequest { retention_time_ms: 1, ..commit_request("short", "t", &[(0, 5)]) };
    assert_eq!(socket.call(4, &request).topics[0].partitions[0].error_code, 0);
    eventually("it expires", || offset(&mut socket, "short", "t") == -1);
    eventually("and its group", || socket.call(4, &ListGroupsRequest::default()).groups.len() == 1);
    assert_eq!(offset(&mut socket, "long", "t"), 5);
    drop(socket);
    broker.stop();
    assert_eq!(ByHand::of(dir.path()).get("/consumers/short"), None);
}

#[test]
fn offsets_of_the_topic_are_taken_along_and_not_left_behind() {
    let (dir, broker) = start(&[]);
    broker.topic("t", 2, &[]);
    let mut socket = broker.connect();
    find_coordinator(&mut socket, "g");
    let request = commit_request("g", "t", &[(0, 11), (1, 12)]);
    assert_eq!(commit(&mut socket, &request), ErrorCode::None);
    drop(socket);
    broker.stop();
    for _ in 0..2 {
        let broker = restarted(dir.path(), &[IN_TREE]);
        let mut socket = broker.connect();
        let committed = [(0, 11, 3, "note".to_owned()), (1, 12, 3, "note".to_owned())];
        assert_eq!(fetch(&mut socket, "g", "t", &[0, 1]).unwrap(), committed);
        drop(socket);
        broker.stop();
    }
    // What was deleted in the tree does not come back from the log.
    let broker = restarted(dir.path(), &[IN_TREE]);
    let delete = DeleteGroupsRequest { groups_names: vec!["g".to_owned()] };
    assert_eq!(broker.connect().call(2, &delete).results[0].error_code, 0);
    assert_eq!(
        commit(&mut broker.connect(), &commit_request("h", "t", &[(0, 1)])),
        ErrorCode::None
    );
    broker.stop();
    let broker = restarted(dir.path(), &[IN_TREE]);
    assert_eq!(offset(&mut broker.connect(), "g", "t"), -1);
    broker.stop();
    let refused = try_start(dir.path(), &[]).err().expect("refused").to_string();
    for part in ["offsets.storage is kafka", "\"h\"", "/consumers"] {
        assert!(refused.contains(part), "{refused}");
    }
}

/// Followers and leaders give up on each other within a test's time.
const QUICK: &[(&str, &str)] = &[
    ("replica.lag.time.max.ms", "1500"),
    ("replica.fetch.backoff.ms", "50"),
    ("replica.fetch.wait.max.ms", "100"),
    ("offsets.topic.num.partitions", "4"),
    IN_TREE,
];

#[test]
fn the_next_coordinator_goes_on_where_the_last_one_was() {
    let mut cluster = Cluster::start(3, QUICK);
    cluster.topic("t", 1, &[]);
    let first = find_coordinator(&mut cluster.connect(1), "g");
    let mut socket = cluster.connect(first);
    eventually("the coordinator serves", || {
        commit(&mut socket, &commit_request("g", "t", &[(0, 5)])) == ErrorCode::None
    });
    // Live, without a restart of anybody.
    let by_hand = ByHand::of_cluster(&cluster);
    assert_eq!(by_hand.get("/consumers/g/offsets/t/0").as_deref(), Some("5"));
    by_hand.put("/consumers/g/offsets/t/0", "6");
    assert_eq!(offset(&mut socket, "g", "t"), 6);
    assert_eq!(commit(&mut socket, &commit_request("g", "t", &[(0, 7)])), ErrorCode::None);
    drop(socket);
    cluster.kill(first);
    let asked = cluster.ids()[0];
    let mut second = first;
    eventually("another one coordinates", || {
        second = find_coordinator(&mut cluster.connect(asked), "g");
        second != first
    });
    let mut socket = cluster.connect(second);
    let mut found = Err(ErrorCode::None);
    eventually("it answers", || {
        found = fetch(&mut socket, "g", "t", &[0]);
        found.is_ok()
    });
    assert_eq!(found.unwrap(), [(0, 7, 3, "note".to_owned())]);
    assert_eq!(commit(&mut socket, &commit_request("g", "t", &[(0, 8)])), ErrorCode::None);
    assert_eq!(by_hand.get("/consumers/g/offsets/t/0").as_deref(), Some("8"));
}
