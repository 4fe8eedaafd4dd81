//! TLS and SASL to the ensemble (`--features zookeeper-tls,zookeeper-sasl`).

use std::time::Duration;

use bytes::Bytes;
use klamm_cluster::tree::zookeeper::{
    Credentials, Identity, Tls, ZooKeeperConfig, ZooKeeperHome, ZooKeeperTree,
};
use klamm_cluster::tree::{CreateMode, Tree, TreeError};
use klamm_ensemble::{Certificates, Ensemble};
use klamm_env::{Env, Loop};

use crate::subject::config;

/// Runs all of it, one after the other.
pub(crate) async fn run(ensemble: &Ensemble) {
    println!("a_name_and_password_by_sasl_own_their_nodes");
    a_name_and_password_by_sasl_own_their_nodes(&ensemble.addresses().join(",")).await;
    let (secure, certificates) = Ensemble::start_secure().await.unwrap();
    println!("over_tls_a_certificate_owns_its_nodes");
    over_tls_a_certificate_owns_its_nodes(&certificates).await;
    println!("a_server_that_nobody_vouches_for_is_refused");
    a_server_that_nobody_vouches_for_is_refused(&certificates).await;
    drop(secure);
}

async fn begin(config: ZooKeeperConfig) -> Result<ZooKeeperTree, TreeError> {
    let env = Env::real().unwrap();
    ZooKeeperHome::new(&env, config, &Loop::current()).begin().await
}

fn sasl(connect: &str, password: &str) -> ZooKeeperConfig {
    let credentials = Credentials::Sasl { user: "klamm".into(), password: password.into() };
    let connection_timeout = Duration::from_secs(5);
    ZooKeeperConfig { credentials, connection_timeout, ..config(connect) }
}

async fn a_name_and_password_by_sasl_own_their_nodes(servers: &str) {
    let connect = format!("{servers}/sasl");
    let owner = begin(sasl(&connect, "conformance")).await.unwrap();
    owner.create("/a", Bytes::new(), CreateMode::Persistent).await.unwrap();
    owner.set("/a", Bytes::from_static(b"x"), Some(0)).await.unwrap();
    let stranger = begin(config(&connect)).await.unwrap();
    assert_eq!(stranger.get("/a").await, Err(TreeError::AccessDenied { path: "/a".into() }));
    let refused = begin(sasl(&connect, "wrong")).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, TreeError::Unavailable { .. }), "{refused}");
    stranger.close().await;
    owner.close().await;
}

fn tls(certificates: &Certificates, has_identity: bool) -> ZooKeeperConfig {
    let identity = Identity {
        certificate: certificates.client_certificate.clone(),
        key: certificates.client_key.clone(),
    };
    let tls = Tls {
        authorities: certificates.authority.clone(),
        identity: Some(identity).filter(|_| has_identity),
    };
    ZooKeeperConfig { tls: Some(tls), ..config(&certificates.address) }
}

async fn over_tls_a_certificate_owns_its_nodes(certificates: &Certificates) {
    let owner = begin(tls(certificates, true)).await.unwrap();
    owner.create("/a", Bytes::new(), CreateMode::Persistent).await.unwrap();
    assert_eq!(owner.get("/a").await.unwrap().data, Bytes::new());
    let stranger = begin(tls(certificates, false)).await.unwrap();
    assert_eq!(stranger.get("/a").await, Err(TreeError::AccessDenied { path: "/a".into() }));
    stranger.create("/b", Bytes::new(), CreateMode::Persistent).await.unwrap();
    stranger.close().await;
    owner.close().await;
}

async fn a_server_that_nobody_vouches_for_is_refused(certificates: &Certificates) {
    let mut config = tls(certificates, false);
    // A certificate, but not one that vouches for the server.
    let foreign = Tls { authorities: certificates.client_certificate.clone(), identity: None };
    config.tls = Some(foreign);
    config.connection_timeout = Duration::from_secs(2);
    let refused = begin(config).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, TreeError::Unavailable { .. }), "{refused}");
}
