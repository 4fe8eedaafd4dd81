//! A broker for one test.

use std::path::Path;
use std::time::{Duration, Instant};

use klamm_broker::config::load;
use klamm_broker::{Broker, MembershipError, RunningBroker, StartError};
use klamm_env::Env;
use klamm_log::LogDirError;
use klamm_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use klamm_protocol::messages::{CreateTopicsRequest, MetadataRequest};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::socket::Socket;

/// A running broker; it is dropped, not stopped, unless the test stops it.
pub(crate) struct TestBroker {
    runtime: Runtime,
    running: RunningBroker,
}

/// Starts a broker on a free port with its data in `dir`.
pub(crate) fn try_start(dir: &Path, set: &[(&str, &str)]) -> Result<TestBroker, StartError> {
    try_start_in(Env::real().expect("an environment"), &dir.display().to_string(), set)
}

/// Starts one in a world of its own, with its data in several directories.
pub(crate) fn start_in(env: Env, dirs: &str, set: &[(&str, &str)]) -> TestBroker {
    try_start_in(env, dirs, set).expect("a broker")
}

/// Longest that a stopped broker's directory stays taken.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

fn try_start_in(env: Env, dirs: &str, set: &[(&str, &str)]) -> Result<TestBroker, StartError> {
    let mut settings = vec![
        ("log.dirs".to_owned(), dirs.to_owned()),
        ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()),
    ];
    settings.extend(set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let loaded = load(None, &settings).expect("sound settings");
    assert_eq!(loaded.reports, Vec::<String>::new());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // A job of the broker before this one may not have ended yet.
    let deadline = Instant::now() + LET_GO_WITHIN;
    loop {
        match runtime.block_on(Broker::start(env.clone(), loaded.config.clone())) {
            Err(StartError::Membership(MembershipError::LogDir(LogDirError::InUse { .. })))
                if Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            started => return Ok(TestBroker { running: started?, runtime }),
        }
    }
}

/// The same, in a directory of its own.
pub(crate) fn start(set: &[(&str, &str)]) -> (TempDir, TestBroker) {
    let dir = TempDir::new().expect("a directory");
    let broker = try_start(dir.path(), set).expect("a broker");
    (dir, broker)
}

impl TestBroker {
    pub(crate) fn address(&self) -> &str {
        self.running.address()
    }

    pub(crate) fn connect(&self) -> Socket {
        Socket::connect(self.address())
    }

    pub(crate) fn stop(self) {
        self.runtime.block_on(self.running.stop());
    }

    /// Creates a topic and answers its id.
    pub(crate) fn topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let response = self.connect().call(7, &request);
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
        response.topics[0].topic_id
    }

    /// The leader epoch of a partition, from Metadata.
    pub(crate) fn leader_epoch(&self, topic: &str, index: usize) -> i32 {
        let request = MetadataRequest::default();
        let response = self.connect().call(9, &MetadataRequest { topics: None, ..request });
        let found = response.topics.iter().find(|found| found.name.as_deref() == Some(topic));
        found.expect("the topic is there").partitions[index].leader_epoch
    }
}

/// Waits until `holds`, no longer than ten seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
