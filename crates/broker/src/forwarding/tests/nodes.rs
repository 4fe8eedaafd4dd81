//! Brokers as far as this module needs them: a registration, an image, a candidate for the
//! controller's office, and a listener for the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use klamm_cluster::controller::{
    self, ControllerHandle, ControllerSettings, ControllerState, NewTopic, PartitionDefaults,
    Registered, TopicDefaults,
};
use klamm_cluster::nodes::broker::{Endpoint, EpochNode, RegistrationNode};
use klamm_cluster::registration::{Registration, last_registration, open_cluster, register};
use klamm_cluster::restart::{Restart, next_epoch};
use klamm_cluster::tree::embedded::EmbeddedHome;
use klamm_cluster::tree::{Home as _, Tree};
use klamm_cluster::{ImageWatch, Member};
use klamm_env::network::SocketOptions;
use klamm_env::{Env, Loop, Stream};
use klamm_protocol::messages::ask_controller::AskControllerRequest;
use klamm_protocol::{Message as _, frame};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::TableRules;
use crate::fence::Fence;
use crate::forwarding::{ControllerClient, CreateTopics};

/// The listener of the brokers.
pub(super) const LISTENER: &str = "INTERNAL";
/// Longer than anything takes here.
pub(super) const LONG: Duration = Duration::from_secs(30);
const DEFAULTS: TopicDefaults = TopicDefaults { partitions: 1, replication_factor: 1 };

fn new_topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic { name: name.to_owned(), partitions, replication_factor: -1, ..NewTopic::default() }
}

/// Creates a topic.
pub(super) fn create(name: &str, partitions: i32) -> CreateTopics {
    CreateTopics::new(vec![new_topic(name, partitions)], DEFAULTS, false)
}

/// Says what creating one would do.
pub(super) fn validate(name: &str, partitions: i32) -> CreateTopics {
    CreateTopics::new(vec![new_topic(name, partitions)], DEFAULTS, true)
}

/// What happens to a question on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It never arrives.
    Question,
    /// It is carried out, but nobody learns of it.
    Answer,
}

/// What a broker's listener does.
#[derive(Default)]
struct Listening {
    /// Questions that have been dealt with, one way or the other.
    received: watch::Sender<usize>,
    losses: Mutex<VecDeque<Loss>>,
}

/// A broker.
pub(super) struct Node {
    pub(super) client: Arc<ControllerClient>,
    pub(super) images: ImageWatch,
    pub(super) controller: ControllerHandle,
    id: i32,
    port: u16,
    registered: watch::Sender<Registered>,
    listening: Arc<Listening>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl Node {
    /// This broker in its current registration.
    pub(super) fn member(&self) -> Member {
        Member { id: self.id, epoch: self.registered.borrow().epoch }
    }

    /// A question of this broker, for a block of producer ids.
    pub(super) fn request(&self, controller_epoch: i32) -> AskControllerRequest {
        let Member { id, epoch } = self.member();
        AskControllerRequest {
            broker_id: id,
            broker_epoch: epoch,
            controller_epoch,
            producer_ids: true,
            ..AskControllerRequest::default()
        }
    }

    /// Questions that came to its listener so far.
    pub(super) fn received(&self) -> usize {
        *self.listening.received.borrow()
    }

    /// Waits until as many have come, and what was to be done with them is done.
    pub(super) async fn wait_received(&self, count: usize) {
        let mut received = self.listening.received.subscribe();
        received.wait_for(|received| *received >= count).await.unwrap();
    }

    /// What happens to the next questions that come to its listener.
    pub(super) fn lose(&self, losses: &[Loss]) {
        self.listening.losses.lock().unwrap().extend(losses);
    }

    /// From now on nobody reaches its listener.
    pub(super) async fn refuse_connections(&self) {
        let listener = self.listener.lock().unwrap().take().unwrap();
        listener.abort();
        assert!(listener.await.unwrap_err().is_cancelled());
    }
}

/// Brokers 1 to n; broker 1 is the controller.
pub(super) struct Nodes {
    nodes: BTreeMap<i32, Node>,
    home: EmbeddedHome,
    _folder: TempDir,
}

impl Nodes {
    /// Starts them one after the other.
    pub(super) async fn start(count: i32) -> Nodes {
        let (env, folder) = (Env::real().unwrap(), TempDir::new().unwrap());
        let dir = folder.path().join("tree");
        let home = EmbeddedHome::open(&env, dir, &Loop::current()).await.unwrap();
        let mut nodes = Nodes { nodes: BTreeMap::new(), home, _folder: folder };
        for id in 1..=count {
            let node = nodes.node(&env, id).await;
            nodes.nodes.insert(id, node);
        }
        for node in nodes.nodes.values() {
            let everybody =
                |image: &klamm_cluster::Image| image.brokers().count() == count as usize;
            node.images.wait_for(everybody).await;
            node.images.wait_for(|image| image.controller() == Some(1)).await;
        }
        nodes
    }

    pub(super) fn get(&self, id: i32) -> &Node {
        &self.nodes[&id]
    }

    /// Ends the session of a broker, as its silence would.
    pub(super) async fn expire(&self, id: i32) {
        let session = self.get(id).registered.borrow().tree.session();
        self.home.expire(session).await;
    }

    /// The same broker in a new session.
    pub(super) async fn register_anew(&mut self, id: i32) {
        self.expire(id).await;
        let node = self.get(id);
        let (tree, epoch) = self.register(id, node.port).await;
        node.images.follow(Arc::clone(&tree), &Loop::current()).await.unwrap();
        node.registered.send_replace(Registered { tree, epoch: epoch.epoch });
    }

    async fn register(&self, id: i32, port: u16) -> (Arc<dyn Tree>, EpochNode) {
        let tree = self.home.connect().await.unwrap();
        open_cluster(&*tree, "the-cluster").await.unwrap();
        let last = last_registration(&*tree, id).await.unwrap();
        let incarnation = uuid::Uuid::from_u128(id.unsigned_abs().into());
        let restart = if last.is_some() { Restart::Clean } else { Restart::First };
        let epoch = next_epoch(last.as_ref().map(|last| &last.value), incarnation, restart);
        let endpoint = Endpoint { listener: LISTENER.into(), host: "127.0.0.1".into(), port };
        let node = RegistrationNode {
            endpoints: vec![endpoint],
            security_protocols: BTreeMap::new(),
            inter_broker_listener: LISTENER.into(),
            rack: None,
            incarnation,
            broker_epoch: epoch.epoch,
            features: BTreeMap::new(),
            log_dir_missing: false,
            offsets_in_tree: false,
        };
        let registration = Registration {
            id,
            node,
            epoch: epoch.clone(),
            expected: last.map(|last| last.version),
            earlier_incarnations: vec![],
        };
        register(&*tree, &registration).await.unwrap();
        (tree, epoch)
    }

    async fn node(&self, env: &Env, id: i32) -> Node {
        let listener = env.network.bind("127.0.0.1:0", SocketOptions::default()).await.unwrap();
        let port = listener.local_address().unwrap().port();
        let (tree, epoch) = self.register(id, port).await;
        let images = ImageWatch::start(Arc::clone(&tree), &Loop::current()).await.unwrap();
        let registered = watch::Sender::new(Registered { tree, epoch: epoch.epoch });
        let settings = ControllerSettings {
            broker_id: id,
            defaults: PartitionDefaults::default(),
            rules: Arc::new(TableRules),
            purge_delay: LONG,
            leader_rebalance: None,
        };
        let random = Arc::clone(&env.random);
        let on = Loop::current();
        let controller = controller::start(registered.subscribe(), settings, random, &on);
        let expected = match id {
            1 => ControllerState::Active { epoch: 1 },
            _ => ControllerState::Standby { controller: 1 },
        };
        assert_eq!(controller.ready().await, expected);
        let fence = Fence::new(registered.subscribe());
        let client =
            ControllerClient::of(env.clone(), id, controller.clone(), images.clone(), fence);
        let (client, listening) = (Arc::new(client), Arc::<Listening>::default());
        let task = tokio::spawn(listen(listener, Arc::clone(&client), Arc::clone(&listening)));
        let listener = Mutex::new(Some(task));
        Node { client, images, controller, id, port, registered, listening, listener }
    }
}

async fn listen(
    mut listener: Box<dyn klamm_env::network::Listener>,
    client: Arc<ControllerClient>,
    listening: Arc<Listening>,
) {
    loop {
        let stream = listener.accept().await.unwrap().attach().unwrap();
        tokio::spawn(serve(stream, Arc::clone(&client), Arc::clone(&listening)));
    }
}

/// Serves one question; the stream is closed after it, as whoever asked does not come back.
async fn serve(
    mut stream: Box<dyn Stream>,
    client: Arc<ControllerClient>,
    listening: Arc<Listening>,
) {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.unwrap();
    let mut request = vec![0; frame::frame_len(prefix, 1 << 24).unwrap()];
    stream.read_exact(&mut request).await.unwrap();
    let loss = listening.losses.lock().unwrap().pop_front();
    if loss != Some(Loss::Question) {
        let (header, mut reader) = frame::decode_request(Bytes::from(request)).unwrap();
        let version = header.api_version;
        let request = AskControllerRequest::decode_whole(&mut reader, version).unwrap();
        let response = client.answer(LISTENER, request).await;
        let (key, id) = (header.api_key, header.correlation_id);
        let encoded = frame::encode_response(key, version, id, &response).unwrap();
        if loss.is_none() {
            // Counted before anybody can have seen the answer.
            listening.received.send_modify(|received| *received += 1);
            stream.write_all(&encoded.bytes).await.unwrap();
            stream.flush().await.unwrap();
            return;
        }
    }
    listening.received.send_modify(|received| *received += 1);
}
