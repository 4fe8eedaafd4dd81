//! One broker whose tree is in a real ensemble (`tests/ensemble/run`).

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use klamm_cluster::tree::Tree as _;
use klamm_cluster::tree::zookeeper::{Credentials, ZooKeeperConfig, ZooKeeperHome, ZooKeeperTree};
use klamm_ensemble::{Certificates, Ensemble};
use klamm_env::{Env, Loop};
use klamm_protocol::ErrorCode;

use crate::broker_process::{
    BrokerProcess, Connection, Launch, Signal, batch, batch_of, eventually,
};
use crate::{ensemble_offsets, ensemble_security};

const SESSION_TIMEOUT: Duration = Duration::from_secs(3);

/// Three servers, and the thread that what lies between them runs on.
pub(crate) struct Servers {
    runtime: tokio::runtime::Handle,
    pub(crate) ensemble: Ensemble,
}

impl Servers {
    fn start() -> Servers {
        let (sender, handle) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            sender.send(runtime.handle().clone()).expect("somebody waits for it");
            runtime.block_on(std::future::pending::<()>());
        });
        let runtime = handle.recv().expect("a runtime");
        let ensemble = runtime.block_on(Ensemble::start(3)).expect("three servers");
        Servers { runtime, ensemble }
    }

    fn run<T>(&self, job: impl Future<Output = std::io::Result<T>>) -> T {
        self.runtime.block_on(job).expect("the ensemble does as it should")
    }

    /// Another server, with TLS.
    pub(crate) fn start_secure(&self) -> (Ensemble, Certificates) {
        self.run(Ensemble::start_secure())
    }

    pub(crate) fn kill(&mut self, servers: impl Iterator<Item = usize>) {
        servers.for_each(|at| self.ensemble.server_mut(at).kill());
    }

    /// Starts what is down.
    pub(crate) fn heal(&mut self) {
        for at in 0..self.ensemble.servers().len() {
            if !self.ensemble.servers()[at].is_running() {
                self.ensemble.server_mut(at).restart().expect("Java starts");
            }
        }
        self.run(self.ensemble.serving());
    }

    /// What somebody with a client of ZooKeeper does below `chroot`.
    pub(crate) fn by_hand<T>(
        &self,
        chroot: &str,
        credentials: Credentials,
        job: impl AsyncFnOnce(&ZooKeeperTree) -> T,
    ) -> T {
        let connect = format!("{}{chroot}", self.ensemble.addresses().join(","));
        let config = ZooKeeperConfig {
            connect: connect.parse().expect("servers"),
            session_timeout: SESSION_TIMEOUT,
            connection_timeout: Duration::from_secs(20),
            in_flight_max: 10,
            probe: "/brokers/probe/-1".to_owned(),
            credentials,
            tls: None,
            owns_nodes: true,
            readable_by_all: true,
        };
        self.runtime.block_on(async {
            let env = Env::real().expect("an environment");
            let tree = ZooKeeperHome::new(&env, config, &Loop::current()).begin().await;
            let tree = tree.expect("a session");
            let done = job(&tree).await;
            tree.close().await;
            done
        })
    }

    pub(crate) fn launch(&self, data_dir: &Path, chroot: &str) -> Launch {
        let servers = self.ensemble.addresses().join(",");
        Launch::on(data_dir)
            .set(&format!("zookeeper.connect={servers}{chroot}"))
            .set(&format!("zookeeper.session.timeout.ms={}", SESSION_TIMEOUT.as_millis()))
            .set("zookeeper.connection.timeout.ms=20000")
    }
}

/// One ensemble for all: to start it takes longer than most of these.
#[test]
#[ignore = "needs Java: tests/ensemble/run"]
fn a_broker_on_an_ensemble() {
    let mut servers = Servers::start();
    println!("it serves and restarts");
    it_serves_and_restarts(&servers);
    println!("it serves through an outage and heals by itself");
    it_serves_through_an_outage_and_heals_by_itself(&mut servers);
    println!("it registers again after its session has ended");
    it_registers_again_after_its_session_has_ended(&servers);
    println!("it ends when another process has taken its id");
    it_ends_when_another_process_has_taken_its_id(&servers);
    ensemble_offsets::run(&mut servers);
    ensemble_security::run(&mut servers);
}

fn it_serves_and_restarts(servers: &Servers) {
    let dir = tempfile::tempdir().unwrap();
    let broker = servers.launch(dir.path(), "/one").start();
    let mut connection = broker.connect();
    connection.create_topic("t", 1);
    assert_eq!(connection.produce("t", &batch_of(&[b"a", b"b"])), 0);
    assert!(!dir.path().join("klamm.tree").exists(), "the tree is not in a file");
    let epoch = connection.leader_epoch("t");
    // Its ephemeral node is still there: it knows its own.
    let broker = broker.kill().start();
    let mut connection = broker.connect();
    assert!(connection.leader_epoch("t") > epoch, "an election after every restart");
    assert_eq!(connection.read_all("t", 0).len(), 2);
    let broker = broker.stop_cleanly().start();
    assert_eq!(broker.connect().read_all("t", 0).len(), 2);
    broker.assert_serves();
}

fn it_serves_through_an_outage_and_heals_by_itself(servers: &mut Servers) {
    let dir = tempfile::tempdir().unwrap();
    let broker = servers.launch(dir.path(), "/outage").start();
    let mut connection = broker.connect();
    connection.create_topic("t", 1);
    let acks_1 = |connection: &mut Connection| {
        let produced = connection.try_produce("t", 0, 1, &batch(b"one"));
        ErrorCode::from_i16(produced.error_code).expect("a known code")
    };
    assert_eq!(acks_1(&mut connection), ErrorCode::None);
    servers.kill(0..3);
    eventually("acks=1 is refused", || {
        (acks_1(&mut connection) == ErrorCode::NotLeaderOrFollower).then_some(())
    });
    // What is committed needs no session (R5).
    let end = connection.produce("t", &batch(b"all"));
    assert_eq!(connection.read_all("t", 0).last().map(|(offset, _)| *offset), Some(end));
    assert_ne!(connection.try_create_topic("u", 1), ErrorCode::None, "nobody decides");
    servers.heal();
    eventually("acks=1 is taken again", || {
        (acks_1(&mut connection) == ErrorCode::None).then_some(())
    });
    eventually("topics are created again", || {
        (connection.try_create_topic("v", 1) == ErrorCode::None).then_some(())
    });
    connection.produce("v", &batch(b"x"));
    broker.assert_serves();
}

fn it_registers_again_after_its_session_has_ended(servers: &Servers) {
    let dir = tempfile::tempdir().unwrap();
    let broker = servers.launch(dir.path(), "/expiry").start();
    let mut connection = broker.connect();
    connection.create_topic("t", 1);
    connection.produce("t", &batch(b"before"));
    let epoch = connection.leader_epoch("t");
    stop_for(&broker, SESSION_TIMEOUT * 2);
    eventually("a new epoch for the new registration", || {
        (connection.leader_epoch("t") > epoch).then_some(())
    });
    eventually("topics are created again", || {
        (connection.try_create_topic("u", 1) == ErrorCode::None).then_some(())
    });
    eventually("the partition is led again", || {
        let produced = connection.try_produce("t", 0, -1, &batch(b"after"));
        (produced.error_code == 0).then_some(())
    });
    assert!(broker.stderr().contains("registered again"), "{}", broker.stderr());
    // What the directories remember is what the tree says: the next start is clean.
    let broker = broker.stop_cleanly().start();
    assert!(broker.stderr().contains("restart=Clean"), "{}", broker.stderr());
    assert_eq!(broker.connect().read_all("t", 0).len(), 2);
}

/// SIGSTOP, and SIGCONT after `time`: there is no event that tells that a session has ended.
fn stop_for(broker: &BrokerProcess, time: Duration) {
    broker.signal(Signal::STOP);
    std::thread::sleep(time);
    broker.signal(Signal::CONT);
}

fn it_ends_when_another_process_has_taken_its_id(servers: &Servers) {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = servers.launch(dir.path(), "/taken").start();
    broker.connect().create_topic("t", 1);
    broker.signal(Signal::STOP);
    // It waits until the first one's session is over.
    let second = servers.launch(other.path(), "/taken").start();
    broker.signal(Signal::CONT);
    let ended = broker.ended();
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("was taken by another process"), "{}", ended.stderr);
    second.assert_serves();
}
