//! Events from the ensemble to a watcher.
//!
//! The ensemble forgets a connection's watches with the connection. The library promises to set them
//! again and (in 0.11.2) leaves out the recursive ones, so it is done here, where it can also be told
//! in the right order: first the watch stands again, then the watcher hears that it may have missed
//! something, and reads.

use std::sync::{Arc, Weak};

use futures_util::stream::{BoxStream, StreamExt as _, select_all, unfold};
use tokio::sync::Notify;
use zookeeper_client::{
    AddWatchMode, Client, Error, EventType, PersistentWatcher, SessionState, WatchedEvent,
};

use super::session::Shared;
use crate::tree::{EventKind, TreeError, WatchQueue, path};

/// `roots` without those that lie below another one: each event comes once.
pub(super) fn outermost<'a>(roots: &[&'a str]) -> Vec<&'a str> {
    let mut kept: Vec<&str> = Vec::new();
    for root in roots {
        let covers = |other: &&str| *other != *root && path::is_within(root, other);
        if !roots.iter().any(covers) && !kept.contains(root) {
            kept.push(root);
        }
    }
    kept
}

/// Sets a recursive watch on each of `roots`.
pub(super) async fn set(
    shared: &Shared,
    roots: &[String],
) -> Result<Vec<PersistentWatcher>, TreeError> {
    let mut sources = Vec::new();
    for root in roots {
        let watch = async |client: Client| -> Result<PersistentWatcher, Error> {
            client.watch(root, AddWatchMode::PersistentRecursive).await
        };
        sources.push(shared.read(root, watch).await?);
    }
    Ok(sources)
}

/// Hands on what the ensemble tells of one watch.
pub(super) struct Pump {
    pub(super) shared: Weak<Shared>,
    pub(super) queue: Weak<WatchQueue>,
    /// The watcher was dropped.
    pub(super) abandoned: Arc<Notify>,
    pub(super) roots: Vec<String>,
}

/// Why a watch is not told of any more.
#[derive(PartialEq, Eq)]
enum Ended {
    /// The session goes on over a new connection, which has no watches.
    Reconnected,
    /// The session is over, or nobody listens.
    Over,
}

impl Pump {
    /// Runs until the session is over or the watcher is dropped.
    pub(super) async fn run(self, sources: Vec<PersistentWatcher>) {
        let abandoned = Arc::clone(&self.abandoned);
        tokio::select! {
            biased;
            () = abandoned.notified() => {}
            () = self.hand_on(sources) => {}
        }
    }

    async fn hand_on(&self, mut sources: Vec<PersistentWatcher>) {
        let mut events = select_all(sources.drain(..).map(stream));
        while self.tell(&mut events).await == Ended::Reconnected {
            let Some(shared) = self.shared.upgrade() else { return };
            let Ok(sources) = set(&shared, &self.roots).await else { return };
            // Only now do the old ones go: a watch that is the last of its node is taken back.
            events = select_all(sources.into_iter().map(stream));
            let Some(queue) = self.queue.upgrade() else { return };
            queue.missed();
        }
    }

    async fn tell(
        &self,
        events: &mut (impl futures_util::Stream<Item = WatchedEvent> + Unpin),
    ) -> Ended {
        while let Some(event) = events.next().await {
            let kind = match event.event_type {
                EventType::NodeCreated => EventKind::Created,
                EventType::NodeDataChanged => EventKind::Changed,
                EventType::NodeDeleted => EventKind::Deleted,
                EventType::Session if event.session_state == SessionState::SyncConnected => {
                    return Ended::Reconnected;
                }
                EventType::Session | EventType::NodeChildrenChanged => continue,
            };
            let Some(queue) = self.queue.upgrade() else { return Ended::Over };
            queue.offer(kind, &event.path);
        }
        Ended::Over
    }
}

/// Ends with the session: the library must not be asked again after that.
fn stream(watcher: PersistentWatcher) -> BoxStream<'static, WatchedEvent> {
    let next = |mut watcher: PersistentWatcher| async move {
        let event = watcher.changed().await;
        let over = event.event_type == EventType::Session && event.session_state.is_terminated();
        (!over).then_some((event, watcher))
    };
    unfold(watcher, next).boxed()
}

#[cfg(test)]
mod tests {
    use super::outermost;

    #[test]
    fn roots_within_roots_are_watched_once() {
        assert_eq!(outermost(&["/a", "/a/b", "/ab", "/c", "/c"]), ["/a", "/ab", "/c"]);
        assert_eq!(outermost(&["/a", "/"]), ["/"]);
    }
}
