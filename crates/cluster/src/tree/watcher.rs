//! Watches: what changed at and below some nodes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::Notify;

use super::SessionId;

/// Events that wait for one watcher at most; one more and they are replaced by
/// [`EventKind::Missed`].
pub const WATCH_EVENTS_MAX: usize = 32 * 1024;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The node came to be.
    Created,
    /// Its data was set.
    Changed,
    /// It is gone.
    Deleted,
    /// Changes may have been missed (a reconnect, or too many at once): read everything watched
    /// again. The path is that of the first root.
    Missed,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The session that the watch belongs to.
    pub session: SessionId,
    /// What happened.
    pub kind: EventKind,
    /// Where.
    pub path: String,
}

/// The home's end of a watch.
#[derive(Debug)]
pub struct WatchQueue {
    session: SessionId,
    roots: Vec<String>,
    events: Mutex<Events>,
    ready: Notify,
    abandoned: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Events {
    waiting: VecDeque<WatchEvent>,
    closed: bool,
}

impl WatchQueue {
    /// A watch of `roots` and its receiving end. The home drops its end when [`Weak::upgrade`] fails:
    /// nobody listens any more.
    pub fn new(session: SessionId, roots: &[&str]) -> (Weak<WatchQueue>, Watcher) {
        let queue = Arc::new(WatchQueue {
            session,
            roots: roots.iter().map(|root| (*root).to_owned()).collect(),
            events: Mutex::default(),
            ready: Notify::new(),
            abandoned: Arc::default(),
        });
        (Arc::downgrade(&queue), Watcher { queue })
    }

    /// Notified once when the receiving end is dropped.
    pub fn abandoned(&self) -> Arc<Notify> {
        Arc::clone(&self.abandoned)
    }

    /// The session that the watch belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Adds an event if it is about a watched node.
    pub fn offer(&self, kind: EventKind, path: &str) {
        if self.roots.iter().any(|root| super::path::is_within(path, root)) {
            self.push(kind, path);
        }
    }

    /// Says that changes may have been missed.
    pub fn missed(&self) {
        let first = self.roots.first().map_or("/", String::as_str);
        self.lock().waiting.clear();
        self.push(EventKind::Missed, first);
    }

    /// Ends the watch: the session is over. What waits is dropped with it (R6).
    pub fn close(&self) {
        let mut events = self.lock();
        events.closed = true;
        events.waiting.clear();
        drop(events);
        self.ready.notify_one();
    }

    fn push(&self, kind: EventKind, path: &str) {
        let mut events = self.lock();
        if events.waiting.len() == 1 && events.waiting[0].kind == EventKind::Missed {
            return;
        }
        let overflow = events.waiting.len() >= WATCH_EVENTS_MAX;
        if overflow {
            events.waiting.clear();
        }
        let kind = if overflow { EventKind::Missed } else { kind };
        let path = path.to_owned();
        events.waiting.push_back(WatchEvent { session: self.session, kind, path });
        drop(events);
        self.ready.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().expect("no panic while the events are locked")
    }
}

/// The receiving end of a watch; dropping it ends the watch.
#[derive(Debug)]
pub struct Watcher {
    queue: Arc<WatchQueue>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.queue.abandoned.notify_one();
    }
}

impl Watcher {
    /// The next event; `None` once the session is over. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(found) = self.take(|waiting| waiting.pop_front()) {
                return found;
            }
            self.queue.ready.notified().await;
        }
    }

    /// All events that wait, at least one; `None` once the session is over. Cancelling loses nothing.
    pub async fn next_batch(&mut self) -> Option<Vec<WatchEvent>> {
        loop {
            let all = |waiting: &mut VecDeque<WatchEvent>| {
                (!waiting.is_empty()).then(|| waiting.drain(..).collect())
            };
            if let Some(found) = self.take(all) {
                return found;
            }
            self.queue.ready.notified().await;
        }
    }

    /// An event if one waits.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        self.take(|waiting| waiting.pop_front()).flatten()
    }

    /// `Some(None)` once the session is over, `None` when there is nothing yet.
    fn take<T>(
        &self,
        pick: impl FnOnce(&mut VecDeque<WatchEvent>) -> Option<T>,
    ) -> Option<Option<T>> {
        let mut events = self.queue.lock();
        if events.closed {
            return Some(None);
        }
        pick(&mut events.waiting).map(Some)
    }
}
