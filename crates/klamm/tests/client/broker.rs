//! The broker that these tests share.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc;

use klamm_broker::Broker;
use klamm_broker::config::load;
use klamm_env::Env;

/// Where the broker is; the first who asks starts it.
pub(crate) fn bootstrap() -> &'static str {
    static BOOTSTRAP: OnceLock<String> = OnceLock::new();
    BOOTSTRAP.get_or_init(|| std::env::var("KLAMM_TEST_BOOTSTRAP").unwrap_or_else(|_| start()))
}

/// Starts a broker that runs as long as the tests do; answers its address.
#[expect(clippy::disallowed_methods, reason = "tests run on the machine itself")]
fn start() -> String {
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("client-tests");
    // Left behind by an earlier run, or not there.
    let _ = std::fs::remove_dir_all(&data);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let set = [
                ("listeners", "PLAINTEXT://127.0.0.1:0"),
                ("log.dirs", data.to_str().expect("a path in UTF-8")),
                ("group.initial.rebalance.delay.ms", "0"),
                ("offsets.topic.num.partitions", "1"),
            ];
            let set: Vec<_> =
                set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let loaded = load(None, &set).expect("settings");
            let env = Env::real().expect("the machine's seams");
            let broker = Broker::start(env, loaded.config).await.expect("a broker");
            sender.send(broker.address().to_owned()).expect("somebody waits for it");
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().expect("the broker starts")
}
