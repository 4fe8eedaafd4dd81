//! A broker whose server of the ensemble trails is asked for what another broker has just done: the
//! controller knows, and the answer comes when this broker knows it too.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use klamm_broker::config::load;
use klamm_broker::{Broker, HomeFactory, RunningBroker};
use klamm_cluster::tree::{Home, SessionId, Tree, TreeError};
use klamm_env::{Clock, Env, Loop};
use klamm_protocol::frame::{RequestHeader, decode_response, encode_request};
use klamm_protocol::messages::create_partitions::CreatePartitionsTopic;
use klamm_protocol::messages::create_topics::CreatableTopic;
use klamm_protocol::messages::delete_topics::DeleteTopicState;
use klamm_protocol::messages::metadata::MetadataRequestTopic;
use klamm_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest,
};
use klamm_protocol::{ErrorCode, Request};
use klamm_sim::disk::SimulatedDisk;
use klamm_sim::tree::{Manners, SimEnsemble, SimHome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longer than anything takes that is not held up.
const LONG: Duration = Duration::from_secs(20);

/// The way of one broker to the ensemble; remembers its newest session.
struct Way {
    home: SimHome,
    session: Arc<Mutex<Option<SessionId>>>,
}

impl Home for Way {
    fn connect(&self) -> BoxFuture<'_, Result<Arc<dyn Tree>, TreeError>> {
        async move {
            let tree = self.home.connect().await?;
            *self.session.lock().unwrap() = Some(tree.session());
            Ok(tree)
        }
        .boxed()
    }
}

struct Ways {
    ensemble: SimEnsemble,
    client: String,
    clock: Arc<dyn Clock>,
    session: Arc<Mutex<Option<SessionId>>>,
}

impl HomeFactory for Ways {
    fn home(&self, on: &Loop) -> Arc<dyn Home> {
        let home = self.ensemble.home(&self.client, Arc::clone(&self.clock), on);
        Arc::new(Way { home, session: Arc::clone(&self.session) })
    }
}

struct Member {
    running: RunningBroker,
    env: Env,
    session: Arc<Mutex<Option<SessionId>>>,
}

impl Member {
    async fn start(id: i32, ensemble: &SimEnsemble) -> Member {
        let disk = SimulatedDisk::new(id.unsigned_abs().into());
        let env = Env { files: disk.files(), ..Env::real().expect("the machine's seams") };
        let id_text = id.to_string();
        let set = [
            ("broker.id", id_text.as_str()),
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("log.dirs", "/data"),
            ("zookeeper.connect", "simulated:1"),
        ];
        let set: Vec<_> =
            set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let config = load(None, &set).expect("settings").config;
        let (session, clock) = (Arc::default(), Arc::clone(&env.clock));
        let homes = Ways {
            ensemble: ensemble.clone(),
            client: format!("broker-{id}"),
            clock,
            session: Arc::clone(&session),
        };
        let started = Broker::start_with(env.clone(), config, Some(Arc::new(homes)));
        Member { running: started.await.expect("starts"), env, session }
    }

    /// The server that its session is at.
    fn server(&self, ensemble: &SimEnsemble) -> usize {
        let session = self.session.lock().unwrap().expect("it has begun one");
        ensemble.server_of(session).expect("connected")
    }

    async fn call<R: Request>(&self, version: i16, request: R) -> R::Response {
        let asked = ask(self.env.clone(), self.running.address().to_owned(), version, request);
        asked.await
    }

    async fn metadata(&self, topic: &str) -> Option<usize> {
        let name = Some(topic.to_owned());
        let topic = MetadataRequestTopic { name, ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let topic = self.call(12, request).await.topics.remove(0);
        (topic.error_code == 0).then_some(topic.partitions.len())
    }

    /// Waits until it shows so many partitions of a topic, or no such topic.
    async fn shows(&self, topic: &str, partitions: Option<usize>) {
        let shown = async {
            while self.metadata(topic).await != partitions {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, shown).await.expect("shown in time");
    }
}

async fn ask<R: Request>(env: Env, address: String, version: i16, request: R) -> R::Response {
    let header = RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id: 1,
        client_id: "test".to_owned(),
    };
    let encoded = encode_request(&header, &request).expect("encodes");
    let mut stream = env.network.connect(&address).await.expect("it listens");
    stream.write_all(&encoded.bytes).await.expect("sent");
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.expect("answered");
    let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut frame).await.expect("answered");
    decode_response::<R>(version, Bytes::from(frame)).expect("decodes").1
}

fn create(name: &str) -> CreateTopicsRequest {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false }
}

fn grow(name: &str, count: i32) -> CreatePartitionsRequest {
    let topics = vec![CreatePartitionsTopic { name: name.to_owned(), count, assignments: None }];
    CreatePartitionsRequest { topics, timeout_ms: 10_000, validate_only: false }
}

fn delete(name: &str) -> DeleteTopicsRequest {
    let name = Some(name.to_owned());
    let topics = vec![DeleteTopicState { name, ..DeleteTopicState::default() }];
    DeleteTopicsRequest { topics, timeout_ms: 10_000, ..DeleteTopicsRequest::default() }
}

#[tokio::test]
async fn a_broker_that_trails_tells_nobody_its_past() {
    let clock = Env::real().expect("the machine's seams").clock;
    let ensemble = SimEnsemble::new(1, Manners { servers: 5, ..Manners::GOOD }, clock);
    let controller = Member::start(1, &ensemble).await;
    // One that is at a server of its own.
    let mut id = 2;
    let asked = loop {
        let member = Member::start(id, &ensemble).await;
        if member.server(&ensemble) != controller.server(&ensemble) {
            break member;
        }
        member.running.stop().await;
        id += 1;
    };
    let held = asked.server(&ensemble);
    ensemble.settled().await;

    ensemble.hold(held, true);
    assert_eq!(controller.call(7, create("t")).await.topics[0].error_code, 0);
    assert_eq!(asked.metadata("t").await, None, "it does not know yet");
    let again = asked.call(7, create("t")).await.topics[0].error_code;
    assert_eq!(ErrorCode::from_wire(again), ErrorCode::TopicAlreadyExists);
    let address = asked.running.address().to_owned();
    let growing = tokio::spawn(ask(asked.env.clone(), address, 3, grow("t", 3)));
    controller.shows("t", Some(3)).await;
    assert!(!growing.is_finished(), "it says nothing that it cannot show");
    ensemble.hold(held, false);
    assert_eq!(growing.await.expect("answered").results[0].error_code, 0);
    assert_eq!(asked.metadata("t").await, Some(3));

    ensemble.hold(held, true);
    assert_eq!(controller.call(7, create("u")).await.topics[0].error_code, 0);
    assert_eq!(asked.call(6, delete("u")).await.responses[0].error_code, 0);
    controller.shows("u", None).await;
    ensemble.hold(held, false);
}
