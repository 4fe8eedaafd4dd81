//! Writers that only rely on what the trait promises, under everything that may go wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use klamm_cluster::tree::{CreateMode, EventKind, Home, Tree, TreeError};
use klamm_env::Loop;
use klamm_sim::tree::{Manners, SimEnsemble, SimHome};

use super::PausedClock;

const CLIENTS: usize = 4;
const ROUNDS: u64 = 25;

/// What was met on the way: a nuisance that never came would prove nothing.
#[derive(Debug, Default)]
struct Met {
    unclear: AtomicU64,
    conflicts: AtomicU64,
    sessions_lost: AtomicU64,
    missed: AtomicU64,
}

impl Met {
    fn counts(&self) -> [u64; 4] {
        [&self.unclear, &self.conflicts, &self.sessions_lost, &self.missed]
            .map(|count| count.load(Ordering::Relaxed))
    }
}

/// One client: it counts its own number up in a node that all share, by compare-and-set, and finds
/// out by reading what became of a write whose answer was lost (R27).
struct Counter {
    home: SimHome,
    me: usize,
    met: Arc<Met>,
    tree: Arc<dyn Tree>,
}

impl Counter {
    async fn run(mut self) {
        for round in 1..=ROUNDS {
            while let Err(error) = self.count_to(round).await {
                match error {
                    TreeError::SessionExpired => {
                        self.met.sessions_lost.fetch_add(1, Ordering::Relaxed);
                        self.tree = begin(&self.home).await;
                    }
                    TreeError::SessionLost => {
                        let mut state = self.tree.state();
                        let _ = state.changed().await;
                    }
                    error if error.is_unclear() => {
                        self.met.unclear.fetch_add(1, Ordering::Relaxed);
                    }
                    error if error.is_conflict() => {
                        self.met.conflicts.fetch_add(1, Ordering::Relaxed);
                    }
                    other => panic!("client {}: {other}", self.me),
                }
            }
        }
    }

    async fn count_to(&self, round: u64) -> Result<(), TreeError> {
        self.tree.catch_up().await?;
        let node = self.tree.get("/counts").await?;
        let mut counts = parse(&node.data);
        if counts[self.me] == round {
            return Ok(());
        }
        assert_eq!(counts[self.me], round - 1, "client {} lost a count", self.me);
        counts[self.me] = round;
        self.tree.set("/counts", text(&counts), Some(node.stat.version)).await.map(|_| ())
    }
}

fn parse(data: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(data).unwrap();
    text.split(' ').map(|count| count.parse().unwrap()).collect()
}

fn text(counts: &[u64]) -> Bytes {
    let texts: Vec<String> = counts.iter().map(u64::to_string).collect();
    texts.join(" ").into()
}

async fn begin(home: &SimHome) -> Arc<dyn Tree> {
    loop {
        if let Ok(tree) = home.connect().await {
            return tree;
        }
    }
}

/// Follows the node as an image does: what it has read last is the end in the end.
async fn follow(tree: Arc<dyn Tree>, met: Arc<Met>) -> Vec<u64> {
    let mut watcher = tree.watch(&["/counts"]).await.expect("nobody ends this session");
    let mut last = vec![0; CLIENTS];
    while last != [ROUNDS; CLIENTS] {
        let node = tree.get("/counts").await.expect("nobody ends this session");
        let counts = parse(&node.data);
        assert!(counts.iter().zip(&last).all(|(now, before)| now >= before), "within a session");
        last = counts;
        if last != [ROUNDS; CLIENTS] {
            let events = watcher.next_batch().await.expect("nobody ends this session");
            let missed = events.iter().any(|event| event.kind == EventKind::Missed);
            met.missed.fetch_add(u64::from(missed), Ordering::Relaxed);
        }
    }
    last
}

/// A run of one seed: what was met, and how long it took.
async fn run(seed: u64) -> ([u64; 4], Duration) {
    let clock = PausedClock::start();
    let ensemble = SimEnsemble::new(seed, Manners::BAD, Arc::clone(&clock));
    let home = |client: &str| ensemble.home(client, Arc::clone(&clock), &Loop::current());
    let setup = begin(&home("setup")).await;
    // Unclear as anything else: it is there, by this or an earlier attempt.
    while !matches!(
        setup.create("/counts", text(&[0; CLIENTS]), CreateMode::Persistent).await,
        Ok(_) | Err(TreeError::NodeExists { .. })
    ) {}
    let met = Arc::new(Met::default());
    let watching = begin(&home("watching")).await;
    while watching.catch_up().await.is_err() {}
    let counters = (0..CLIENTS).map(|me| {
        let (home, met) = (home(&format!("counter {me}")), Arc::clone(&met));
        async move {
            let tree = begin(&home).await;
            Counter { home, me, met, tree }.run().await;
        }
    });
    let trouble = async {
        // One client silent past its session's end, one quorum lost, one server that trails for long.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            ensemble.cut("counter 0", true);
            tokio::time::sleep(Manners::BAD.session_timeout * 3 / 2).await;
            ensemble.cut("counter 0", false);
            ensemble.hold(0, true);
            tokio::time::sleep(Duration::from_secs(2)).await;
            ensemble.hold(0, false);
            ensemble.lose_quorum();
            tokio::time::sleep(Duration::from_secs(2)).await;
            ensemble.regain_quorum();
        }
    };
    let all =
        async { tokio::join!(join_all(counters), follow(watching, Arc::clone(&met)), trouble) };
    let in_time = tokio::time::timeout(Duration::from_secs(600), all).await;
    assert!(in_time.is_ok(), "seed {seed} does not come to an end: {met:?}");
    let truth = ensemble.truth().get("/counts").expect("it was made");
    assert_eq!(parse(&truth.data), [ROUNDS; CLIENTS], "seed {seed}");
    // Each change is one count of one client: none was applied twice.
    assert_eq!(truth.stat.version, i32::try_from(ROUNDS).unwrap() * CLIENTS as i32, "seed {seed}");
    (met.counts(), clock.monotonic())
}

#[tokio::test(start_paused = true)]
async fn counts_survive_every_nuisance() {
    let mut sums = [0; 4];
    for seed in 0..20 {
        let (met, _) = run(seed).await;
        sums = std::array::from_fn(|at| sums[at] + met[at]);
    }
    let [unclear, conflicts, sessions_lost, missed] = sums;
    println!("{unclear} unclear, {conflicts} conflicts, {sessions_lost} sessions, {missed} missed");
    assert!(sums.iter().all(|count| *count > 0), "a nuisance never came: {sums:?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let once = || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(7))
    };
    assert_eq!(once(), once());
}
