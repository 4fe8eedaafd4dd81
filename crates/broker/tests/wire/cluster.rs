//! Several brokers on loopback whose tree is one and the same, in this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use klamm_broker::config::load;
use klamm_broker::{Broker, HomeFactory, MembershipError, RunningBroker, StartError};
use klamm_cluster::nodes::broker::RegistrationNode;
use klamm_cluster::nodes::{NodeKey, decode};
use klamm_cluster::tree::embedded::EmbeddedHome;
use klamm_cluster::tree::{CreateMode, Home, Node, Op, SessionId, Tree, TreeError};
use klamm_env::{Env, Loop, Threads};
use klamm_log::LogDirError;
use klamm_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use klamm_protocol::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use klamm_protocol::messages::{CreateTopicsRequest, MetadataRequest, MetadataResponse};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::broker::eventually;
use crate::socket::Socket;

/// Longest wait for jobs of a broker that is killed, and for one that cannot go on to say so.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Brokers by id; what their disks hold outlives them.
pub(crate) struct Cluster {
    brokers: BTreeMap<i32, Member>,
    dir: TempDir,
    home: Arc<EmbeddedHome>,
    settings: Vec<(String, String)>,
    runtime: Runtime,
    _tree: Loop,
}

struct Member {
    running: RunningBroker,
    process: Process,
    sessions: Arc<Mutex<Vec<SessionId>>>,
}

/// A broker that does nothing any more, while the tree takes it for alive.
pub(crate) struct Hanging {
    running: RunningBroker,
    sessions: Arc<Mutex<Vec<SessionId>>>,
}

impl Hanging {
    /// Where it was reached.
    pub(crate) fn address(&self) -> &str {
        self.running.address()
    }
}

/// A session with the tree of a cluster.
pub(crate) struct TreeSession<'a> {
    tree: Arc<dyn Tree>,
    runtime: &'a Runtime,
}

impl TreeSession<'_> {
    /// The content of a node, if there is one.
    pub(crate) fn get(&self, path: &str) -> Option<Bytes> {
        let found = self.runtime.block_on(self.tree.find(path)).expect("the tree is there");
        found.map(|node| node.data)
    }

    /// Makes a node.
    pub(crate) fn create(&self, path: &str, data: &'static str) {
        let created = self.tree.create(path, data.into(), CreateMode::Persistent);
        self.runtime.block_on(created).expect("created");
    }

    /// Puts `data` into a node, whatever was there.
    pub(crate) fn set(&self, path: &str, data: impl Into<Bytes>) {
        let set = Op::Set { path: path.to_owned(), data: data.into(), expected: None };
        self.runtime.block_on(self.tree.multi(vec![set])).expect("written");
    }

    /// Everything below `/`, with versions.
    pub(crate) fn everything(&self) -> Vec<(String, Node)> {
        self.runtime.block_on(self.tree.subtree("/")).expect("the tree is there")
    }
}

/// A thread with a runtime, on which all of a broker runs: it ends like a process.
struct Process {
    handle: Handle,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Process {
    fn start() -> Process {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            // An error is the sender's end, which is meant.
            let _ = runtime.block_on(ended);
            runtime.shutdown_timeout(END_WITHIN);
        });
        Process { handle, end, thread }
    }

    fn run<T: Send + 'static>(&self, job: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        self.handle.spawn(async move {
            let _ = sender.send(job.await);
        });
        receiver.recv().expect("the job does not panic")
    }

    fn end(self) {
        drop(self.end);
        self.thread.join().expect("no panic");
    }
}

/// All loops of a broker are one runtime: it ends like a process, whatever runs on it.
struct OneRuntime(Handle);

impl Threads for OneRuntime {
    fn start_loops(&self, _: &str, count: usize) -> std::io::Result<Vec<Loop>> {
        let _inside = self.0.enter();
        Ok((0..count).map(|_| Loop::current()).collect())
    }

    fn queue_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        self.0.spawn_blocking(job);
    }

    fn cores(&self) -> usize {
        1
    }
}

/// The way of one broker to the common tree; remembers its sessions.
struct Way {
    home: Arc<EmbeddedHome>,
    sessions: Arc<Mutex<Vec<SessionId>>>,
}

impl Home for Way {
    fn connect(&self) -> BoxFuture<'_, Result<Arc<dyn Tree>, TreeError>> {
        async move {
            let tree = self.home.connect().await?;
            self.sessions.lock().expect("not poisoned").push(tree.session());
            Ok(tree)
        }
        .boxed()
    }
}

struct Ways(Arc<Way>);

impl HomeFactory for Ways {
    fn home(&self, _: &Loop) -> Arc<dyn Home> {
        let way: Arc<Way> = Arc::clone(&self.0);
        way
    }
}

impl Cluster {
    /// Brokers 1 to `count`, with these settings each.
    pub(crate) fn start(count: i32, settings: &[(&str, &str)]) -> Cluster {
        let env = Env::real().expect("an environment");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = TempDir::new().expect("a directory");
        let tree = env.threads.start_loops("tree", 1).expect("a thread").pop().expect("one loop");
        let home = runtime.block_on(EmbeddedHome::open(&env, dir.path().join("tree"), &tree));
        let home = Arc::new(home.expect("a tree"));
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let settings = settings.iter().map(own).collect();
        let brokers = BTreeMap::new();
        let mut cluster = Cluster { brokers, dir, home, settings, runtime, _tree: tree };
        for id in 1..=count {
            cluster.start_broker(id);
        }
        cluster
    }

    /// Where broker `id` keeps its logs.
    pub(crate) fn data_dir(&self, id: i32) -> PathBuf {
        self.dir.path().join(format!("broker-{id}"))
    }

    /// Starts a broker on what its disk holds.
    pub(crate) fn start_broker(&mut self, id: i32) {
        self.try_start_broker(id).expect("a broker");
    }

    /// The same, where it may be refused.
    pub(crate) fn try_start_broker(&mut self, id: i32) -> Result<(), StartError> {
        let sessions = Arc::new(Mutex::new(Vec::new()));
        let way = Way { home: Arc::clone(&self.home), sessions: Arc::clone(&sessions) };
        let mut settings = self.settings.clone();
        for (key, value) in [
            ("broker.id", id.to_string()),
            ("broker.rack", format!("rack-{id}")),
            ("log.dirs", self.data_dir(id).display().to_string()),
            ("listeners", "PLAINTEXT://127.0.0.1:0".to_owned()),
            ("zookeeper.connect", "localhost:1".to_owned()),
        ] {
            settings.push((key.to_owned(), value));
        }
        let loaded = load(None, &settings).expect("sound settings");
        assert_eq!(loaded.reports, Vec::<String>::new());
        let process = Process::start();
        let homes: Arc<dyn HomeFactory> = Arc::new(Ways(Arc::new(way)));
        let (mut running, mut refused) = (None, None);
        eventually("whoever had the directory has let it go", || {
            let threads = Arc::new(OneRuntime(process.handle.clone()));
            let env = Env { threads, ..Env::real().expect("an environment") };
            let config = loaded.config.clone();
            match process.run(Broker::start_with(env, config, Some(Arc::clone(&homes)))) {
                Ok(started) => running = Some(started),
                Err(StartError::Membership(MembershipError::LogDir(LogDirError::InUse {
                    ..
                }))) => return false,
                Err(error) => refused = Some(error),
            }
            true
        });
        let Some(running) = running else {
            process.end();
            return Err(refused.expect("why it did not start"));
        };
        self.brokers.insert(id, Member { running, process, sessions });
        Ok(())
    }

    /// A session with the common tree, for what no broker does.
    pub(crate) fn tree(&self) -> TreeSession<'_> {
        let tree = self.runtime.block_on(self.home.connect()).expect("a session");
        TreeSession { tree, runtime: &self.runtime }
    }

    /// The broker epoch of a registered broker.
    pub(crate) fn broker_epoch(&self, id: i32) -> i64 {
        let path = NodeKey::Broker(id).path();
        let node = self.tree().get(&path).expect("it is registered");
        decode::<RegistrationNode>(&path, &node).expect("readable").broker_epoch
    }

    /// Ends a broker without a word: its connections break, its session is over.
    pub(crate) fn kill(&mut self, id: i32) {
        let hanging = self.hang(id);
        self.expire(hanging);
    }

    /// Ends a broker without a word; its session goes on until it expires, so that the others take it
    /// for one that is there and does nothing.
    pub(crate) fn hang(&mut self, id: i32) -> Hanging {
        let Member { running, process, sessions } = self.brokers.remove(&id).expect("it runs");
        process.end();
        Hanging { running, sessions }
    }

    /// The session of a broker that hangs is over.
    pub(crate) fn expire(&self, hanging: Hanging) {
        let Hanging { running, sessions } = hanging;
        drop(running);
        let sessions = sessions.lock().expect("not poisoned").clone();
        for session in sessions {
            self.runtime.block_on(self.home.expire(session));
        }
    }

    /// Stops a broker in order.
    pub(crate) fn stop(&mut self, id: i32) {
        let Member { running, process, .. } = self.brokers.remove(&id).expect("it runs");
        process.run(running.stop());
        process.end();
    }

    /// The session of a broker that runs is over.
    pub(crate) fn expire_running(&self, id: i32) {
        let sessions = &self.brokers.get(&id).expect("it runs").sessions;
        let sessions = sessions.lock().expect("not poisoned").clone();
        for session in sessions {
            self.runtime.block_on(self.home.expire(session));
        }
    }

    /// Waits until broker `id` cannot go on by itself; answers why, and ends it.
    pub(crate) fn replaced(&mut self, id: i32) -> String {
        let Member { running, process, .. } = self.brokers.remove(&id).expect("it runs");
        let reason = process.run(async move {
            tokio::time::timeout(END_WITHIN, running.replaced()).await.expect("it ends by itself")
        });
        process.end();
        reason
    }

    /// The common tree.
    pub(crate) fn home(&self) -> &EmbeddedHome {
        &self.home
    }

    /// A connection to broker `id`.
    pub(crate) fn connect(&self, id: i32) -> Socket {
        let member = self.brokers.get(&id).expect("it runs");
        Socket::connect(member.running.address())
    }

    fn any(&self) -> i32 {
        *self.brokers.keys().next().expect("one runs")
    }

    /// The brokers that run.
    pub(crate) fn ids(&self) -> Vec<i32> {
        self.brokers.keys().copied().collect()
    }

    /// The cluster as broker `id` sees it.
    pub(crate) fn metadata(&self, id: i32) -> MetadataResponse {
        self.connect(id).call(12, &MetadataRequest { topics: None, ..MetadataRequest::default() })
    }

    /// The id of a topic.
    pub(crate) fn topic_id(&self, name: &str) -> Uuid {
        let topics = self.metadata(self.any()).topics;
        let found = topics.iter().find(|found| found.name.as_deref() == Some(name));
        found.expect("the topic is there").topic_id
    }

    /// A partition as broker `id` sees it.
    pub(crate) fn partition(&self, id: i32, topic: &str, index: i32) -> MetadataResponsePartition {
        let topics = self.metadata(id).topics;
        let named = |found: &MetadataResponseTopic| found.name.as_deref() == Some(topic);
        let found = topics.into_iter().find(named).expect("the topic is there");
        let numbered = |found: &MetadataResponsePartition| found.partition_index == index;
        found.partitions.into_iter().find(numbered).expect("the partition is there")
    }

    /// Creates a topic of `partitions`, everywhere.
    pub(crate) fn topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: i16::try_from(self.brokers.len()).expect("a few"),
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..CreateTopicsRequest::default()
        };
        let controller = self.metadata(self.any()).controller_id;
        let response = self.connect(controller).call(7, &request);
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
        for id in self.brokers.keys() {
            eventually("every broker knows the topic", || {
                let topics = self.metadata(*id).topics;
                topics.iter().any(|found| found.name.as_deref() == Some(name))
            });
        }
    }

    /// The leader of a partition, once broker `asked` knows one other than `but`.
    pub(crate) fn leader(&self, topic: &str, index: i32, but: Option<i32>) -> i32 {
        let mut leader = -1;
        eventually("somebody leads", || {
            leader = self.partition(self.any(), topic, index).leader_id;
            leader >= 0 && Some(leader) != but && self.brokers.contains_key(&leader)
        });
        leader
    }

    /// Waits until that many replicas are in sync.
    pub(crate) fn in_sync(&self, topic: &str, index: i32, count: usize) {
        eventually("replicas are in sync", || {
            self.partition(self.any(), topic, index).isr_nodes.len() == count
        });
    }
}
