//! What the client library answers, in the words of the tree.

use zookeeper_client::{Error, MultiWriteError, MultiWriteResult, Stat as ZkStat};

use crate::tree::{MultiError, Op, OpResult, SessionId, Stat, TreeError, path};

/// An operation on one node that failed. What is not known to have done nothing is unclear (R27): a
/// library's new error must not read as a failure.
pub(super) fn failure(error: &Error, op: &Op) -> TreeError {
    let path = || op.path().to_owned();
    match error {
        Error::NoNode if matches!(op, Op::Create { .. }) => {
            TreeError::NoNode { path: parent(op.path()) }
        }
        Error::NoNode => TreeError::NoNode { path: path() },
        Error::NodeExists => TreeError::NodeExists { path: path() },
        Error::BadVersion => TreeError::BadVersion { path: path(), expected: expected(op) },
        Error::NotEmpty => TreeError::NotEmpty { path: path() },
        Error::NoChildrenForEphemerals => {
            TreeError::NoChildrenForEphemerals { path: parent(op.path()) }
        }
        Error::NoAuth | Error::InvalidAcl => TreeError::AccessDenied { path: path() },
        Error::QuotaExceeded => TreeError::StorageFull,
        other => of_request(other),
    }
}

/// A read that failed.
pub(super) fn read_failure(error: &Error, path: &str) -> TreeError {
    match error {
        Error::NoNode => TreeError::NoNode { path: path.to_owned() },
        Error::NoAuth => TreeError::AccessDenied { path: path.to_owned() },
        other => of_request(other),
    }
}

fn of_request(error: &Error) -> TreeError {
    match error {
        Error::SessionExpired | Error::ClientClosed | Error::AuthFailed => {
            TreeError::SessionExpired
        }
        _ => TreeError::ConnectionLoss,
    }
}

/// Whether the connection broke and the session may go on: a read is tried again.
pub(super) fn is_interruption(error: &Error) -> bool {
    of_request(error) == TreeError::ConnectionLoss
        && !matches!(error, Error::NoNode | Error::NoAuth)
}

pub(super) fn multi_failure(error: &MultiWriteError, ops: &[Op]) -> MultiError {
    match error {
        MultiWriteError::OperationFailed { index, source } if *index < ops.len() => {
            MultiError::at(*index, failure(source, &ops[*index]))
        }
        MultiWriteError::OperationFailed { source, .. }
        | MultiWriteError::RequestFailed { source } => of_request(source).into(),
    }
}

/// Whether the ensemble's leader has answered: with success, or with the operation that failed.
pub(super) fn is_from_leader<T>(answer: &Result<T, MultiWriteError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(MultiWriteError::OperationFailed { source, .. }) => is_verdict(source),
        Err(MultiWriteError::RequestFailed { .. }) => false,
    }
}

/// Whether a single write was judged by the leader: followers only pass writes on.
pub(super) fn is_verdict(error: &Error) -> bool {
    matches!(
        error,
        Error::NoNode
            | Error::NodeExists
            | Error::BadVersion
            | Error::NotEmpty
            | Error::NoChildrenForEphemerals
            | Error::NoAuth
            | Error::InvalidAcl
    )
}

/// Servers before 3.8.2 answer a create inside a multi with an empty stat: it is known anyway.
pub(super) fn op_result(result: &MultiWriteResult, op: &Op, session: SessionId) -> OpResult {
    match result {
        MultiWriteResult::Check => OpResult::Checked,
        MultiWriteResult::Delete => OpResult::Deleted,
        MultiWriteResult::SetData { stat } => OpResult::Set(stat_of(stat)),
        _ => OpResult::Created(Stat { version: 0, owner: op.is_ephemeral().then_some(session) }),
    }
}

pub(super) fn stat_of(stat: &ZkStat) -> Stat {
    let owner = Some(stat.ephemeral_owner).filter(|owner| *owner != 0).map(SessionId);
    Stat { version: stat.version, owner }
}

fn parent(of: &str) -> String {
    path::parent(of).unwrap_or("/").to_owned()
}

fn expected(op: &Op) -> i32 {
    match op {
        Op::Check { expected, .. } | Op::Set { expected, .. } | Op::Delete { expected, .. } => {
            expected.unwrap_or(-1)
        }
        Op::Create { .. } => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_have_failed_is_unclear() {
        let op = Op::set("/a", "", 3);
        let unclear = [
            Error::ConnectionLoss,
            Error::Timeout,
            Error::SessionMoved,
            Error::UnexpectedError("x".into()),
            Error::UnexpectedErrorCode(-7),
            Error::Throttled,
        ];
        for error in unclear {
            assert!(failure(&error, &op).is_unclear(), "{error}");
            assert!(is_interruption(&error) && !is_verdict(&error), "{error}");
            let multi = Err::<(), _>(MultiWriteError::RequestFailed { source: error });
            assert!(!is_from_leader(&multi));
        }
    }

    #[test]
    fn a_verdict_names_node_and_version() {
        let bad = failure(&Error::BadVersion, &Op::set("/a", "", 3));
        assert_eq!(bad, TreeError::BadVersion { path: "/a".into(), expected: 3 });
        let orphan = failure(&Error::NoNode, &Op::create("/a/b", ""));
        assert_eq!(orphan, TreeError::NoNode { path: "/a".into() });
        assert!(is_verdict(&Error::BadVersion) && !is_interruption(&Error::NoNode));
    }

    #[test]
    fn a_multi_names_the_operation_that_failed() {
        let ops = [Op::check("/a", 1), Op::set("/b", "", 2)];
        let failed = MultiWriteError::OperationFailed { index: 1, source: Error::BadVersion };
        let expected = MultiError::at(1, TreeError::BadVersion { path: "/b".into(), expected: 2 });
        assert_eq!(multi_failure(&failed, &ops), expected);
        assert!(is_from_leader::<()>(&Err(failed)));
    }
}
