//! A broker that says to a real ensemble who it is.

use bytes::Bytes;
use klamm_cluster::tree::zookeeper::{Credentials, HAS_SASL, HAS_TLS};
use klamm_cluster::tree::{CreateMode, Tree as _, TreeError};

use crate::broker_process::Launch;
use crate::ensemble::Servers;

pub(crate) fn run(servers: &mut Servers) {
    println!("nodes belong to who has name and password");
    nodes_belong_to_who_has_name_and_password(servers, "digest", "/digest");
    println!("without access lists the nodes are everybodys");
    without_access_lists_the_nodes_are_everybodys(servers);
    if HAS_SASL {
        println!("the same by sasl");
        nodes_belong_to_who_has_name_and_password(servers, "sasl", "/sasl");
    }
    if HAS_TLS {
        println!("over tls a certificate is enough");
        over_tls_a_certificate_is_enough(servers);
    }
}

fn launch(servers: &Servers, dir: &tempfile::TempDir, chroot: &str, password: &str) -> Launch {
    servers
        .launch(dir.path(), chroot)
        .set("zookeeper.auth.user=klamm")
        .set(&format!("zookeeper.auth.password={password}"))
        .set("offsets.storage=zookeeper")
}

fn nodes_belong_to_who_has_name_and_password(servers: &Servers, scheme: &str, chroot: &str) {
    let dir = tempfile::tempdir().unwrap();
    let scheme = format!("zookeeper.auth.scheme={scheme}");
    let start = |password| launch(servers, &dir, chroot, password).set(&scheme);
    // The password that the servers know of klamm, for SASL.
    let broker = start("conformance").set("zookeeper.set.acl=true").start();
    let mut connection = broker.connect();
    connection.create_topic("t", 1);
    connection.find_coordinator("g");
    connection.commit("g", "t", 5);
    let offset = "/consumers/g/offsets/t/0";
    servers.by_hand(chroot, Credentials::Anonymous, async |stranger| {
        assert_eq!(stranger.get(offset).await.expect("readable").data, "5");
        for path in [offset, "/controller_epoch", "/klamm"] {
            let denied = Err(TreeError::AccessDenied { path: path.to_owned() });
            assert_eq!(stranger.set(path, Bytes::new(), None).await, denied);
        }
        for secret in ["/config/users", "/config/brokers"] {
            let denied = Err(TreeError::AccessDenied { path: secret.to_owned() });
            assert_eq!(stranger.get(secret).await, denied);
        }
        let made = stranger.create("/consumers/h", Bytes::new(), CreateMode::Persistent).await;
        assert_eq!(made, Err(TreeError::AccessDenied { path: "/consumers/h".to_owned() }));
    });
    let again = broker.stop_cleanly();
    let complaint = start("wrong").set("zookeeper.connection.timeout.ms=3000").refused();
    let complaint = complaint.complaint();
    assert!(complaint.contains("denied") || complaint.contains("no session"), "{complaint}");
    assert_eq!(again.start().connect().committed("g", "t"), 5);
}

fn without_access_lists_the_nodes_are_everybodys(servers: &Servers) {
    let dir = tempfile::tempdir().unwrap();
    let launch = launch(servers, &dir, "/open", "x").set("zookeeper.auth.scheme=digest");
    let broker = launch.start();
    servers.by_hand("/open", Credentials::Anonymous, async |anybody| {
        let made = anybody.create("/consumers", Bytes::new(), CreateMode::Persistent).await;
        made.expect("everybody's");
    });
    broker.assert_serves();
}

fn over_tls_a_certificate_is_enough(servers: &Servers) {
    let (secure, certificates) = servers.start_secure();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let trust = file("trust.pem", certificates.authority.clone());
    let own = file("own.pem", certificates.client_certificate.clone() + &certificates.client_key);
    let launch = Launch::on(&dir.path().join("data"))
        .set(&format!("zookeeper.connect={}/tls", certificates.address))
        .set("zookeeper.connection.timeout.ms=5000")
        .set("zookeeper.ssl.client.enable=true")
        .set("zookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty")
        .set(&format!("zookeeper.ssl.truststore.location={trust}"))
        .set(&format!("zookeeper.ssl.keystore.location={own}"))
        .set("zookeeper.set.acl=true");
    let broker = launch.start();
    broker.connect().create_topic("t", 1);
    broker.assert_serves();
    let again = broker.stop_cleanly();
    // Without its certificate it is a stranger to its own nodes.
    let stranger = Launch::on(&dir.path().join("data"))
        .set(&format!("zookeeper.connect={}/tls", certificates.address))
        .set("zookeeper.connection.timeout.ms=5000")
        .set("zookeeper.ssl.client.enable=true")
        .set(&format!("zookeeper.ssl.truststore.location={trust}"));
    let complaint = stranger.refused();
    assert!(complaint.complaint().contains("denied"), "{}", complaint.complaint());
    again.start().assert_serves();
    drop(secure);
}
