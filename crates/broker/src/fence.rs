//! Whether this broker may still believe its session with the tree (R4, R5).

use std::fmt;

use klamm_cluster::controller::Registered;
use klamm_cluster::tree::SessionState;
use tokio::sync::watch;

/// Knows the broker's current session; cheap to clone.
#[derive(Clone)]
pub(crate) struct Fence {
    registered: watch::Receiver<Registered>,
}

impl Fence {
    pub(crate) fn new(registered: watch::Receiver<Registered>) -> Fence {
        Fence { registered }
    }

    /// The epoch of the broker's newest registration.
    pub(crate) fn broker_epoch(&self) -> i64 {
        self.registered.borrow().epoch
    }

    /// The newest registration and the session that it is in.
    pub(crate) fn registered(&self) -> Registered {
        self.registered.borrow().clone()
    }

    /// Whether others may have been told that this broker is gone: then it acknowledges nothing that
    /// is not committed, and deletes nothing. Asked when it matters, as a thread that was stopped
    /// for a while has been told nothing.
    pub(crate) fn is_lost(&self) -> bool {
        let state = self.registered.borrow().tree.state_now();
        matches!(state, SessionState::Lost | SessionState::Expired)
    }

    /// Waits until the broker may delete.
    pub(crate) async fn found_again(&self) {
        let mut registered = self.registered.clone();
        loop {
            let tree = std::sync::Arc::clone(&registered.borrow_and_update().tree);
            let mut state = tree.state();
            loop {
                state.mark_unchanged();
                match tree.state_now() {
                    SessionState::Connected | SessionState::Suspended => return,
                    SessionState::Lost => {}
                    SessionState::Expired => break,
                }
                if state.changed().await.is_err() {
                    break;
                }
            }
            if registered.changed().await.is_err() {
                // The broker is stopping: whoever waits is dropped with it.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use klamm_cluster::tree::Home as _;
    use klamm_cluster::tree::embedded::EmbeddedHome;
    use klamm_env::{Env, Loop};

    use super::*;

    #[tokio::test]
    async fn what_may_not_be_done_waits_for_the_next_registration() {
        let (env, folder) = (Env::real().unwrap(), tempfile::tempdir().unwrap());
        let dir = folder.path().join("tree");
        let home = EmbeddedHome::open(&env, dir, &Loop::current()).await.unwrap();
        let tree = home.connect().await.unwrap();
        let session = tree.session();
        let registered = watch::Sender::new(Registered { tree, epoch: 1 });
        let fence = Fence::new(registered.subscribe());
        assert!(!fence.is_lost() && fence.found_again().now_or_never().is_some());
        home.expire(session).await;
        assert!(fence.is_lost());
        let mut waits = Box::pin(fence.found_again());
        assert!((&mut waits).now_or_never().is_none());
        let tree: Arc<_> = home.connect().await.unwrap();
        registered.send_replace(Registered { tree, epoch: 2 });
        waits.await;
        assert_eq!((fence.is_lost(), fence.broker_epoch()), (false, 2));
    }
}
