//! How long a broker may believe its session (R4): pure, fed with the clock of
//! [`klamm_env::Clock::boot_time`], which goes on while a machine is suspended.

use std::time::Duration;

use crate::tree::SessionState;

/// What is known of one session's life.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Negotiated session time-out; `None`: the session ends with the process (embedded tree).
    timeout: Option<Duration>,
    /// *Send* time of the last probe that the ensemble's leader answered.
    last_ok: Duration,
    /// The next probe is not sent before.
    next_probe: Duration,
    connected: bool,
    expired: bool,
}

impl Lease {
    /// The lease on a session whose first answered request was sent at `now`.
    pub fn new(timeout: Duration, now: Duration) -> Lease {
        Lease {
            timeout: Some(timeout),
            last_ok: now,
            next_probe: now + timeout / 3,
            connected: true,
            expired: false,
        }
    }

    /// The lease on a session that only ends with the process.
    pub fn unlimited() -> Lease {
        Lease {
            timeout: None,
            last_ok: Duration::ZERO,
            next_probe: Duration::ZERO,
            connected: true,
            expired: false,
        }
    }

    /// How the session is to be taken at `now`; ask whenever a thread resumes, not only on a timer.
    pub fn state(&self, now: Duration) -> SessionState {
        if self.expired {
            return SessionState::Expired;
        }
        match self.timeout {
            Some(timeout) if now.saturating_sub(self.last_ok) >= timeout * 2 / 3 => {
                SessionState::Lost
            }
            _ if !self.connected => SessionState::Suspended,
            _ => SessionState::Connected,
        }
    }

    /// When the lease runs out unless a probe is answered.
    pub fn lost_at(&self) -> Option<Duration> {
        self.timeout.map(|timeout| self.last_ok + timeout * 2 / 3)
    }

    /// When `/brokers/probe/<id>` is to be written next: once per third of the time-out, and at once
    /// after a reconnect; `None` while there is nothing to write it over.
    pub fn probe_at(&self) -> Option<Duration> {
        let possible = self.timeout.is_some() && self.connected && !self.expired;
        possible.then_some(self.next_probe)
    }

    /// Whether to write the probe now.
    pub fn probe_due(&self, now: Duration) -> bool {
        self.probe_at().is_some_and(|at| now >= at)
    }

    /// A probe goes out.
    pub fn on_probe_sent(&mut self, now: Duration) {
        self.next_probe = now + self.timeout.unwrap_or_default() / 3;
    }

    /// The probe, or any other write, that was sent at `sent` was answered by the ensemble's leader.
    pub fn on_probe_answered(&mut self, sent: Duration) {
        self.last_ok = self.last_ok.max(sent);
    }

    /// The connection dropped.
    pub fn on_disconnected(&mut self) {
        self.connected = false;
    }

    /// The session goes on over another connection. Only a probe renews the lease.
    pub fn on_reconnected(&mut self, now: Duration) {
        self.connected = true;
        self.next_probe = now;
    }

    /// The ensemble said that the session is over.
    pub fn on_expired(&mut self) {
        self.expired = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(9);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_is_lost_two_thirds_after_the_last_answered_probe_was_sent() {
        let mut lease = Lease::new(TIMEOUT, s(100));
        assert_eq!(lease.state(s(105)), SessionState::Connected);
        assert_eq!(lease.state(s(106)), SessionState::Lost);
        lease.on_probe_answered(s(103));
        assert_eq!(lease.state(s(108)), SessionState::Connected, "counted from the sending");
        assert_eq!(lease.state(s(109)), SessionState::Lost);
        assert_eq!(lease.lost_at(), Some(s(109)));
    }

    #[test]
    fn a_dropped_connection_suspends_and_a_reconnect_alone_does_not_renew() {
        let mut lease = Lease::new(TIMEOUT, s(0));
        lease.on_disconnected();
        assert_eq!(lease.state(s(1)), SessionState::Suspended);
        lease.on_reconnected(s(2));
        assert!(lease.probe_due(s(2)), "to know soon where it stands");
        assert_eq!(lease.state(s(5)), SessionState::Connected);
        assert_eq!(lease.state(s(6)), SessionState::Lost);
    }

    #[test]
    fn an_answer_that_comes_late_does_not_turn_the_lease_back() {
        let mut lease = Lease::new(TIMEOUT, s(0));
        lease.on_probe_answered(s(5));
        lease.on_probe_answered(s(2));
        assert_eq!(lease.lost_at(), Some(s(11)));
    }

    #[test]
    fn a_probe_is_due_once_per_third() {
        let mut lease = Lease::new(TIMEOUT, s(0));
        assert!(!lease.probe_due(s(2)) && lease.probe_due(s(3)));
        lease.on_probe_sent(s(3));
        assert!(!lease.probe_due(s(5)) && lease.probe_due(s(6)));
        lease.on_disconnected();
        assert!(!lease.probe_due(s(6)), "nothing to send it over");
        assert_eq!(lease.probe_at(), None);
    }

    #[test]
    fn an_expired_session_stays_expired() {
        let mut lease = Lease::new(TIMEOUT, s(0));
        lease.on_expired();
        lease.on_probe_answered(s(1));
        assert_eq!(lease.state(s(1)), SessionState::Expired);
    }

    #[test]
    fn the_embedded_lease_never_runs_out() {
        let lease = Lease::unlimited();
        assert_eq!(lease.state(Duration::MAX), SessionState::Connected);
        assert!(!lease.probe_due(Duration::MAX) && lease.lost_at().is_none());
    }
}
