//! Trying again, with growing pauses and an end.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::ClientConfig;
use crate::error::ClientError;

/// One call's patience.
pub(crate) struct Retry {
    what: String,
    timeout: Duration,
    deadline: Instant,
    pause: Duration,
    pause_max: Duration,
}

impl Retry {
    /// Patience for as long as the configuration gives a call.
    pub(crate) fn new(config: &ClientConfig, what: impl Into<String>) -> Self {
        Self::until(config, what, config.call_timeout)
    }

    pub(crate) fn until(config: &ClientConfig, what: impl Into<String>, timeout: Duration) -> Self {
        Self {
            what: what.into(),
            timeout,
            deadline: Instant::now() + timeout,
            pause: config.retry_backoff,
            pause_max: config.retry_backoff_max,
        }
    }

    /// Pauses before the next try, unless `error` is one that stays or time has run out.
    pub(crate) async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_retriable() {
            return Err(error);
        }
        if Instant::now() + self.pause >= self.deadline {
            return Err(self.timed_out(error));
        }
        tracing::debug!(what = self.what, %error, "trying again");
        self.pause_unconditionally().await;
        Ok(())
    }

    pub(crate) async fn pause_unconditionally(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.pause_max);
    }

    fn timed_out(&self, last: ClientError) -> ClientError {
        if last.code().is_some() {
            return last;
        }
        ClientError::TimedOut {
            what: self.what.clone(),
            after_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            last: Some(Box::new(last)),
        }
    }
}
