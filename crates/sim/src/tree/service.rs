//! The ensemble: its servers, its sessions, its commits. Synchronous; the time comes from outside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use klamm_cluster::tree::state::TreeState;
use klamm_cluster::tree::{EventKind, MultiError, Op, OpResult, SessionId, WatchQueue};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::Manners;

/// One step of the tree's history.
struct Commit {
    number: u64,
    after: TreeState,
    events: Vec<(EventKind, Arc<str>)>,
}

#[derive(Default)]
struct Server {
    state: TreeState,
    applied: u64,
    /// Commits on their way, and when each arrives.
    coming: VecDeque<(Duration, Arc<Commit>)>,
    /// Hears nothing from the leader.
    held: bool,
}

/// A session's way to its server; another one has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) server: usize,
    pub(super) number: u64,
}

struct Session {
    client: Arc<str>,
    connection: Option<Connection>,
    /// The newest commit that the session may have seen.
    seen: u64,
    /// When the leader last knew it to be alive.
    heard: Duration,
    /// Each with the commit after which it was set: it is not told of earlier ones.
    watches: Vec<(u64, Weak<WatchQueue>)>,
    /// On their way.
    coming: VecDeque<Event>,
}

struct Event {
    at: Duration,
    commit: u64,
    kind: EventKind,
    path: Arc<str>,
}

/// What became of an attempt to go on with a session.
pub(super) enum Attached {
    Yes(Connection),
    /// The session is over.
    Over,
    /// Not there, or not now.
    No,
}

/// The ensemble.
pub(super) struct Service {
    manners: Manners,
    random: SmallRng,
    /// The tree after the last commit.
    truth: TreeState,
    commits: u64,
    servers: Vec<Server>,
    quorum: bool,
    sessions: BTreeMap<SessionId, Session>,
    sessions_made: i64,
    connections_made: u64,
    cut_off: BTreeSet<Arc<str>>,
    losing: BTreeSet<Arc<str>>,
    /// Servers that a client is not to come back to.
    avoided: BTreeMap<Arc<str>, usize>,
    /// The tree after each change since the last look, where somebody looks.
    observed: Option<Vec<TreeState>>,
}

impl Service {
    pub(super) fn new(seed: u64, manners: Manners) -> Service {
        Service {
            manners,
            random: SmallRng::seed_from_u64(seed),
            truth: TreeState::default(),
            commits: 0,
            servers: (0..manners.servers).map(|_| Server::default()).collect(),
            quorum: true,
            sessions: BTreeMap::new(),
            sessions_made: 0,
            connections_made: 0,
            cut_off: BTreeSet::new(),
            losing: BTreeSet::new(),
            avoided: BTreeMap::new(),
            observed: None,
        }
    }

    /// The tree after each change since the last call; nothing is kept before the first.
    pub(super) fn observe(&mut self) -> Vec<TreeState> {
        self.observed.replace(Vec::new()).unwrap_or_default()
    }

    /// Lets happen what is due by `now`; whether anything did.
    pub(super) fn advance(&mut self, now: Duration) -> bool {
        let mut moved = false;
        for server in 0..self.servers.len() {
            while let Some(commit) = self.servers[server].next_arrival(now) {
                self.tell(server, &commit, now);
                moved = true;
            }
        }
        for session in self.sessions.values_mut() {
            while session.coming.front().is_some_and(|event| event.at <= now) {
                let event = session.coming.pop_front().expect("just seen");
                session.tell(&event);
                moved = true;
            }
        }
        if self.quorum {
            moved |= self.count_time(now);
        }
        moved
    }

    /// When something happens next by itself.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let arrivals = self.servers.iter().filter(|server| !server.held);
        let arrivals = arrivals.filter_map(|server| server.coming.front().map(|(at, _)| *at));
        let events = self.sessions.values().filter_map(|s| s.coming.front().map(|event| event.at));
        let silent = self.sessions.values().filter(|session| !self.is_heard(session));
        let ends = silent.filter(|_| self.quorum).map(|s| s.heard + self.manners.session_timeout);
        arrivals.chain(events).chain(ends).min()
    }

    /// The leader hears of the sessions that are served, and gives up those that are silent.
    fn count_time(&mut self, now: Duration) -> bool {
        let heard: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| self.is_heard(s)).map(|(id, _)| *id).collect();
        for id in heard {
            self.sessions.get_mut(&id).expect("just listed").heard = now;
        }
        let timeout = self.manners.session_timeout;
        let is_silent = |session: &Session| now.saturating_sub(session.heard) >= timeout;
        let silent: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| is_silent(s)).map(|(id, _)| *id).collect();
        silent.iter().for_each(|id| self.end(*id, now));
        !silent.is_empty()
    }

    fn is_heard(&self, session: &Session) -> bool {
        session.connection.is_some_and(|connection| !self.servers[connection.server].held)
    }

    /// A server's sessions hear of what it has just applied, a little later.
    fn tell(&mut self, server: usize, commit: &Commit, now: Duration) {
        for session in self.sessions.values_mut() {
            if session.connection.is_none_or(|connection| connection.server != server) {
                continue;
            }
            for (kind, path) in &commit.events {
                let waits = session.coming.iter().any(|event| event.path == *path);
                if waits && self.random.random_bool(self.manners.coalesced) {
                    continue;
                }
                let delay = draw(&mut self.random, self.manners.delay_max);
                let last = session.coming.back().map_or(Duration::ZERO, |event| event.at);
                let (at, path) = (last.max(now + delay), Arc::clone(path));
                session.coming.push_back(Event { at, commit: commit.number, kind: *kind, path });
            }
        }
    }

    pub(super) fn truth(&self) -> &TreeState {
        &self.truth
    }

    pub(super) fn is_settled(&self) -> bool {
        self.servers.iter().all(|server| server.applied == self.commits)
    }

    pub(super) fn draw_delay(&mut self) -> Duration {
        draw(&mut self.random, self.manners.delay_max)
    }

    /// Whether the connection of a request breaks under it, one of `in_flight` on their way.
    pub(super) fn draw_break(&mut self, in_flight: usize) -> bool {
        self.random.random_bool(self.manners.breaks / in_flight as f64)
    }

    // Sessions.

    /// A new session on some server; `None` where the client reaches none.
    pub(super) fn begin(&mut self, client: &Arc<str>, now: Duration) -> Option<SessionId> {
        let server = self.choose(client, 0)?;
        self.sessions_made += 1;
        let id = SessionId(self.sessions_made);
        let session = Session {
            client: Arc::clone(client),
            connection: None,
            seen: 0,
            heard: now,
            watches: Vec::new(),
            coming: VecDeque::new(),
        };
        self.sessions.insert(id, session);
        self.connect(id, server);
        Some(id)
    }

    /// Goes on with a session over a new connection.
    pub(super) fn attach(&mut self, id: SessionId, client: &str, now: Duration) -> Attached {
        let seen = self.sessions.get(&id).map_or(0, |session| session.seen);
        let Some(server) = self.choose(client, seen) else { return Attached::No };
        let Some(session) = self.sessions.get_mut(&id) else { return Attached::Over };
        session.heard = now;
        self.avoided.remove(client);
        Attached::Yes(self.connect(id, server))
    }

    /// A server that the client reaches, that is in touch and not behind what the session has seen.
    fn choose(&mut self, client: &str, seen: u64) -> Option<usize> {
        if !self.quorum || self.cut_off.contains(client) {
            return None;
        }
        let avoided = self.avoided.get(client);
        let fit = |at: &usize| {
            let server = &self.servers[*at];
            !server.held && server.applied >= seen && avoided != Some(at)
        };
        let fit: Vec<usize> = (0..self.servers.len()).filter(fit).collect();
        (!fit.is_empty()).then(|| fit[self.random.random_range(0..fit.len())])
    }

    fn connect(&mut self, id: SessionId, server: usize) -> Connection {
        self.connections_made += 1;
        let connection = Connection { server, number: self.connections_made };
        let session = self.sessions.get_mut(&id).expect("its callers have it");
        session.connection = Some(connection);
        connection
    }

    pub(super) fn connection(&self, id: SessionId) -> Option<Connection> {
        self.sessions.get(&id)?.connection
    }

    pub(super) fn disconnect(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.connection = None;
            session.coming.clear();
        }
    }

    pub(super) fn add_watch(&mut self, id: SessionId, watch: Weak<WatchQueue>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let since = session.connection.map_or(0, |c| self.servers[c.server].applied);
        session.watches.push((since, watch));
    }

    /// Tells every watch of a session that something may have been missed.
    pub(super) fn tell_missed(&self, id: SessionId) {
        let watches = self.sessions.get(&id).into_iter().flat_map(|session| &session.watches);
        watches.filter_map(|(_, watch)| watch.upgrade()).for_each(|watch| watch.missed());
    }

    /// Ends a session; what it leaves goes with a commit, which every server applies in its own time.
    pub(super) fn end(&mut self, id: SessionId, now: Duration) {
        if self.sessions.remove(&id).is_some() {
            let events = self.truth.end_session(id);
            self.append(events, now);
        }
    }

    // Requests.

    /// What the session's server shows.
    pub(super) fn read<T>(&mut self, id: SessionId, read: impl FnOnce(&TreeState) -> T) -> T {
        let session = self.sessions.get_mut(&id).expect("a connection belongs to a session");
        let connection = session.connection.expect("its callers have looked");
        let server = &self.servers[connection.server];
        session.seen = session.seen.max(server.applied);
        read(&server.state)
    }

    /// Writes through the leader. The answer leaves the session's server once that has applied the
    /// commit whose number comes with it.
    pub(super) fn write(
        &mut self,
        id: SessionId,
        ops: &[Op],
        now: Duration,
    ) -> (Result<Vec<OpResult>, MultiError>, u64) {
        let answer = match self.truth.apply(id, ops) {
            Ok(applied) => {
                self.append(applied.events, now);
                Ok(applied.results)
            }
            Err(refused) => Err(refused),
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.seen = session.seen.max(self.commits);
        }
        (answer, self.commits)
    }

    /// Whether the session's server has applied commit `number`.
    pub(super) fn has_applied(&self, connection: Connection, number: u64) -> bool {
        self.servers[connection.server].applied >= number
    }

    /// Whether the reply to a write of this session is lost, one of `in_flight` on their way.
    pub(super) fn loses_reply(&mut self, id: SessionId, in_flight: usize) -> bool {
        let client = self.sessions.get(&id).map(|session| Arc::clone(&session.client));
        let asked = client.is_some_and(|client| self.losing.remove(&client));
        asked || self.random.random_bool(self.manners.lost_replies / in_flight as f64)
    }

    fn append(&mut self, events: Vec<(EventKind, Arc<str>)>, now: Duration) {
        self.commits += 1;
        if let Some(observed) = self.observed.as_mut().filter(|_| !events.is_empty()) {
            observed.push(self.truth.clone());
        }
        let commit = Arc::new(Commit { number: self.commits, after: self.truth.clone(), events });
        for server in &mut self.servers {
            let lag = draw(&mut self.random, self.manners.lag_max);
            let last = server.coming.back().map_or(Duration::ZERO, |(at, _)| *at);
            server.coming.push_back((last.max(now + lag), Arc::clone(&commit)));
        }
    }

    // Faults.

    pub(super) fn cut(&mut self, client: &str, cut: bool) {
        if cut {
            self.cut_off.insert(Arc::from(client));
            self.break_all(client);
        } else {
            self.cut_off.remove(client);
        }
    }

    pub(super) fn break_all(&mut self, client: &str) {
        let of_client = |(_, session): &(&SessionId, &Session)| &*session.client == client;
        let ids: Vec<SessionId> =
            self.sessions.iter().filter(of_client).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.disconnect(id));
    }

    pub(super) fn turn(&mut self, client: &str) {
        let served = self.sessions.values().find(|session| &*session.client == client);
        if let Some(connection) = served.and_then(|session| session.connection) {
            self.avoided.insert(Arc::from(client), connection.server);
        }
        self.break_all(client);
    }

    pub(super) fn lose_next_reply(&mut self, client: &str) {
        self.losing.insert(Arc::from(client));
    }

    pub(super) fn hold(&mut self, server: usize, held: bool, now: Duration) {
        self.servers[server].held = held;
        if !held {
            self.advance(now);
        }
    }

    pub(super) fn lose_quorum(&mut self) {
        self.quorum = false;
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        ids.into_iter().for_each(|id| self.disconnect(id));
    }

    pub(super) fn regain_quorum(&mut self, now: Duration) {
        self.quorum = true;
        self.sessions.values_mut().for_each(|session| session.heard = now);
    }
}

impl Session {
    fn tell(&mut self, event: &Event) {
        self.watches.retain(|(_, watch)| watch.strong_count() > 0);
        let told = self.watches.iter().filter(|(since, _)| *since < event.commit);
        let told = told.filter_map(|(_, watch)| watch.upgrade());
        told.for_each(|watch| watch.offer(event.kind, &event.path));
    }
}

impl Server {
    /// Applies the next commit if it has arrived.
    fn next_arrival(&mut self, now: Duration) -> Option<Arc<Commit>> {
        let arrived = !self.held && self.coming.front().is_some_and(|(at, _)| *at <= now);
        let (_, commit) = if arrived { self.coming.pop_front()? } else { return None };
        self.state = commit.after.clone();
        self.applied = commit.number;
        Some(commit)
    }
}

/// Up to `max`, in whole milliseconds.
fn draw(random: &mut SmallRng, max: Duration) -> Duration {
    let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.random_range(0..=max))
}
