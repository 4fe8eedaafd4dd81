//! The task that sends one partition's batches.
//!
//! Batches go out in order and several may be under way. After a failure nothing new is sent until
//! all answers are in; what is not delivered is then sent again in order, with sequences that go
//! on where the delivered ones end.
//!
//! A batch that failed before one that was delivered is in the log all the same, as no broker takes a
//! sequence behind a gap: it is sent again as it was, alone, to learn where it lies, and its sequence
//! and the later ones stay used. A broker that has never heard of a producer takes any sequence, so
//! the first batch of an identity goes alone too: after a change of leader, one behind it could be
//! taken where the first is not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::produce::ProduceRequest;

use crate::cluster::Lane;
use crate::connection::PendingResponse;
use crate::error::ClientError;
use crate::offsets::is_stale_metadata;

use super::identity::{Identities, Identity};
use super::queue::{ClosedBatch, Queue};
use super::request::{self, Appended};
use super::{Acks, Shared};

struct InFlight {
    batch: ClosedBatch,
    pending: PendingResponse<ProduceRequest>,
}

/// What a failure means for the batch that met it.
enum Verdict {
    SendAgain,
    Halve,
    GiveUp,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    identity: Option<Identity>,
    next_sequence: i32,
    /// A broker has confirmed a batch of this identity: from then on none takes one behind a gap.
    is_known: bool,
    in_flight: VecDeque<InFlight>,
    /// To be sent before anything new.
    again: VecDeque<ClosedBatch>,
    failures_in_a_row: u32,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, queue: Arc<Queue>) -> Self {
        Self {
            shared,
            queue,
            identity: None,
            next_sequence: 0,
            is_known: false,
            in_flight: VecDeque::new(),
            again: VecDeque::new(),
            failures_in_a_row: 0,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            if self.in_flight.len() >= self.in_flight_max() {
                self.settle_first().await;
            } else if let Some(batch) = self.again.pop_front() {
                self.send(batch).await;
            } else if self.in_flight.is_empty() {
                let batch = self.queue.next().await;
                self.send(batch).await;
            } else {
                self.send_or_settle().await;
            }
        }
    }

    /// Batches that may be under way at a time.
    fn in_flight_max(&self) -> usize {
        let in_log = self.in_flight.iter().any(|in_flight| in_flight.batch.is_in_log);
        let alone = self.shared.config.idempotent && (in_log || !self.is_known);
        if alone { 1 } else { self.shared.config.in_flight_max }
    }

    async fn send_or_settle(&mut self) {
        let InFlight { batch, pending } = self.in_flight.pop_front().expect("the caller saw one");
        let queue = Arc::clone(&self.queue);
        let answer = request::answer(pending, &queue.partition);
        tokio::pin!(answer);
        let mut sent = Vec::new();
        // The first's answer is polled to its end here, while others are sent behind it.
        let answer = loop {
            let has_room = 1 + self.in_flight.len() < self.shared.config.in_flight_max;
            tokio::select! {
                biased;
                answer = &mut answer => break answer,
                next = queue.next(), if has_room && sent.is_empty() => {
                    if let Err(unsent) = self.try_send(next).await {
                        sent.push(unsent);
                    }
                }
            }
        };
        self.settle(batch, answer, sent).await;
    }

    async fn settle_first(&mut self) {
        let InFlight { batch, pending } = self.in_flight.pop_front().expect("the caller saw one");
        let answer = request::answer(pending, &self.queue.partition).await;
        self.settle(batch, answer, Vec::new()).await;
    }

    /// Acts on the answer to the first batch; `unsent` failed to go out behind it.
    async fn settle(
        &mut self,
        batch: ClosedBatch,
        answer: Result<Appended, ClientError>,
        unsent: Vec<(ClosedBatch, ClientError)>,
    ) {
        let mut failed = Vec::new();
        let mut in_log = 0;
        let mut throttle = Duration::ZERO;
        match answer {
            Ok(appended) => throttle = self.delivered(batch, &appended),
            Err(error) => failed.push((batch, error)),
        }
        if !failed.is_empty() || !unsent.is_empty() {
            while let Some(InFlight { batch, pending }) = self.in_flight.pop_front() {
                match request::answer(pending, &self.queue.partition).await {
                    Ok(appended) => {
                        throttle = self.delivered(batch, &appended);
                        in_log = failed.len();
                    }
                    Err(error) => failed.push((batch, error)),
                }
            }
            failed.extend(unsent);
            self.recover(failed, in_log).await;
        }
        if !throttle.is_zero() {
            tokio::time::sleep(throttle).await;
        }
    }

    fn delivered(&mut self, batch: ClosedBatch, appended: &Appended) -> Duration {
        self.failures_in_a_row = 0;
        self.is_known = true;
        batch.delivered(appended.base_offset, appended.log_append_time_ms);
        appended.throttle
    }

    /// Sends a batch, with nothing under way that could overtake it; failing that, recovers.
    async fn send(&mut self, batch: ClosedBatch) {
        let Err(unsent) = self.try_send(batch).await else { return };
        let mut failed = Vec::new();
        let mut in_log = 0;
        while let Some(InFlight { batch, pending }) = self.in_flight.pop_front() {
            match request::answer(pending, &self.queue.partition).await {
                Ok(appended) => {
                    self.delivered(batch, &appended);
                    in_log = failed.len();
                }
                Err(error) => failed.push((batch, error)),
            }
        }
        failed.push(unsent);
        self.recover(failed, in_log).await;
    }

    async fn try_send(&mut self, mut batch: ClosedBatch) -> Result<(), (ClosedBatch, ClientError)> {
        match self.put_under_way(&mut batch).await {
            Ok(Some(pending)) => {
                self.in_flight.push_back(InFlight { batch, pending });
                Ok(())
            }
            Ok(None) => {
                batch.delivered(-1, -1);
                Ok(())
            }
            Err(error) => Err((batch, error)),
        }
    }

    async fn put_under_way(
        &mut self,
        batch: &mut ClosedBatch,
    ) -> Result<Option<PendingResponse<ProduceRequest>>, ClientError> {
        let shared = Arc::clone(&self.shared);
        let leader = shared.cluster.leader(&self.queue.partition, Lane::Produce).await?;
        let counts = shared.config.idempotent && batch.base_sequence.is_none();
        if counts {
            let fields = self.identity().await?.at(self.next_sequence);
            batch.stamp(fields);
        }
        let timeout = shared.cluster.config().request_timeout;
        let acks = shared.config.acks;
        let request = request::produce_request(
            &self.queue.partition,
            leader.topic_id,
            acks.wire(),
            timeout,
            batch.bytes.clone(),
        );
        let version = request::version(&leader.connection, leader.topic_id)?;
        let pending = if acks == Acks::None {
            leader.connection.submit_unanswered(&request, version).await?;
            None
        } else {
            // The broker may take its timeout to answer, so the client waits longer than that.
            Some(leader.connection.submit(&request, version, timeout).await?)
        };
        batch.was_sent = true;
        if counts {
            self.next_sequence = sequence_after(self.next_sequence, batch.records_count);
        }
        Ok(pending)
    }

    async fn identity(&mut self) -> Result<Identity, ClientError> {
        if let Some(identity) = self.identity {
            return Ok(identity);
        }
        let identity = self.shared.identities.first(&self.shared.cluster).await?;
        self.identity = Some(identity);
        Ok(identity)
    }

    /// Decides over batches that failed, which are in order and the only ones not delivered. The first
    /// `in_log` of them stand before one that was.
    async fn recover(&mut self, failed: Vec<(ClosedBatch, ClientError)>, in_log: usize) {
        let (_, first_error) = failed.first().expect("something failed");
        tracing::debug!(partition = %self.queue.partition, error = %first_error, "not delivered");
        let is_stale = first_error.code().is_none_or(is_stale_metadata);
        let mut needs_new_identity = false;
        let mut rewind = None;
        // What waits to be sent again already comes after what failed now.
        let later = std::mem::take(&mut self.again);
        let mut is_first = true;
        for (nth, (mut batch, error)) in failed.into_iter().enumerate() {
            batch.is_in_log |= self.shared.config.idempotent && nth < in_log;
            if batch.is_in_log {
                // A broker that has lost count of it will never say where it lies.
                if self.is_too_late(&batch) || has_lost_count(&error) && nth >= in_log {
                    batch.failed(&error);
                } else {
                    self.again.push_back(batch);
                }
                continue;
            }
            // The sequence is its own no longer: whatever goes next takes the first one's.
            if let Some(sequence) = batch.base_sequence.take() {
                rewind.get_or_insert(sequence);
            }
            needs_new_identity |= is_first && has_lost_count(&error);
            batch.may_be_in_log |= batch.was_sent && error.is_retriable();
            match self.verdict(&batch, &error, std::mem::take(&mut is_first)) {
                Verdict::SendAgain => self.again.push_back(batch),
                Verdict::Halve => {
                    if let Ok(halves) = batch.halves(&self.shared.config) {
                        self.again.extend(halves);
                    }
                }
                Verdict::GiveUp => {
                    // With its sequence, the next one would be taken for it.
                    needs_new_identity |= batch.may_be_in_log;
                    batch.failed(&error);
                }
            }
        }
        self.again.extend(later);
        if let Some(sequence) = rewind {
            self.next_sequence = sequence;
        }
        if needs_new_identity && self.shared.config.idempotent {
            self.renew_identity().await;
        }
        self.pause(is_stale).await;
    }

    fn is_too_late(&self, batch: &ClosedBatch) -> bool {
        batch.opened.elapsed() >= self.shared.config.delivery_timeout
    }

    fn verdict(&self, batch: &ClosedBatch, error: &ClientError, is_first: bool) -> Verdict {
        if self.is_too_late(batch) {
            return Verdict::GiveUp;
        }
        match error.code() {
            Some(ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge)
                if batch.records_count > 1 =>
            {
                Verdict::Halve
            }
            // Behind one that failed, this is how a broker refuses to fill a gap.
            Some(ErrorCode::OutOfOrderSequenceNumber) if !is_first => Verdict::SendAgain,
            _ if self.shared.config.idempotent && has_lost_count(error) => Verdict::SendAgain,
            _ if error.is_retriable() => Verdict::SendAgain,
            _ => Verdict::GiveUp,
        }
    }

    /// Takes an identity with which the partition starts counting anew.
    async fn renew_identity(&mut self) {
        let mut pause = self.shared.cluster.config().retry_backoff;
        loop {
            match Identities::another(&self.shared.cluster).await {
                Ok(identity) => {
                    self.identity = Some(identity);
                    self.next_sequence = 0;
                    self.is_known = false;
                    return;
                }
                Err(error) => tracing::debug!(%error, "no producer id"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.shared.cluster.config().retry_backoff_max);
        }
    }

    async fn pause(&mut self, is_stale: bool) {
        let config = self.shared.cluster.config();
        let doublings = self.failures_in_a_row.min(10);
        let pause = (config.retry_backoff * 2_u32.pow(doublings)).min(config.retry_backoff_max);
        self.failures_in_a_row += 1;
        tokio::time::sleep(pause).await;
        if is_stale {
            let topic = [self.queue.partition.topic.clone()];
            if let Err(error) = self.shared.cluster.refresh(&topic).await {
                tracing::debug!(%error, "no metadata");
            }
        }
    }
}

/// Whether the broker's idea of the producer is not ours any more.
fn has_lost_count(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::InvalidProducerIdMapping
        )
    )
}

/// Sequences wrap to 0 after `i32::MAX`.
fn sequence_after(sequence: i32, count: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(count);
    i32::try_from(sum % (1 << 31)).expect("a remainder by 2^31 fits")
}
