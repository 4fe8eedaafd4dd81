//! The ZooKeeper home over a real ensemble: the conformance suite, and what only this home has.
//!
//! `tests/ensemble/run` fetches the servers and runs these; they are ignored otherwise, as they need
//! Java.

mod home;
#[cfg(all(feature = "zookeeper-sasl", feature = "zookeeper-tls"))]
mod secure;
mod subject;

use std::sync::Arc;

use klamm_cluster::conformance::{CASES, Report, Subject, run_all};
use klamm_ensemble::Ensemble;
use tokio::sync::Mutex;

use subject::ZooKeeper;

const SERVERS: usize = 3;

/// One ensemble for all: to start it takes as long as the half of the suite.
#[tokio::test]
#[ignore = "needs Java: tests/ensemble/run"]
async fn the_tree_in_a_real_ensemble() {
    let ensemble = Arc::new(Mutex::new(Ensemble::start(SERVERS).await.unwrap()));
    let mut nth = 0;
    let fresh = async || {
        nth += 1;
        Arc::new(ZooKeeper::new(Arc::clone(&ensemble), nth).await) as Arc<dyn Subject>
    };
    let Report { passed, skipped } = run_all(fresh).await;
    assert_eq!(skipped, [] as [&str; 0], "an ensemble can have every fault");
    if std::env::var_os("KLAMM_CASE").is_some() {
        return;
    }
    assert_eq!(passed.len(), CASES.len());
    home::run(&*ensemble.lock().await).await;
    #[cfg(all(feature = "zookeeper-sasl", feature = "zookeeper-tls"))]
    secure::run(&*ensemble.lock().await).await;
    println!("{} cases over {SERVERS} servers, and what only this home has", passed.len());
}
