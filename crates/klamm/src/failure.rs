//! How a verb fails: one line for people, exit code 1.

use std::io;

use klamm_client::ClientError;

/// What a verb gives.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The cluster could not be reached or refused.
    Client(ClientError),
    /// Input or output failed.
    Io(io::Error),
    /// Nobody reads the output any more.
    OutputClosed,
    /// What was asked does not fit what is there.
    Refused(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::OutputClosed => f.write_str("nobody reads the output"),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Io(error),
        }
    }
}
