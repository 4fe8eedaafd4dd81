//! The answers of one connection, leaving in the order of their requests.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::dispatch::Frame;

/// Bytes of answers that wait to be written, beyond which no further request is read.
const READY_BYTES_MAX: usize = 1024 * 1024;

/// An answer that is on its way.
pub(crate) enum Pending {
    /// Ready to be written.
    Ready(Frame),
    /// Waiting for something outside; an error ends the connection.
    Waiting(BoxFuture<'static, Result<Frame, String>>),
    /// Never to be written: the connection ends here, for this reason.
    Failed(String),
}

#[derive(Default)]
struct State {
    queue: VecDeque<Pending>,
    ready_bytes: usize,
    /// No further answer will be pushed.
    closed: bool,
    pusher: Option<Waker>,
    taker: Option<Waker>,
}

/// A bounded queue between a connection's reading and its writing side, which are polled by one
/// task; the lock is never contended.
pub(crate) struct Answers {
    state: Mutex<State>,
    count_max: usize,
}

impl Answers {
    /// A queue of at most `count_max` answers.
    pub(crate) fn new(count_max: usize) -> Answers {
        Answers { state: Mutex::default(), count_max: count_max.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// Waits until there is room for one more answer.
    pub(crate) async fn room(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.queue.len() < self.count_max && state.ready_bytes < READY_BYTES_MAX {
                return Poll::Ready(());
            }
            state.pusher = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Appends the answer to the newest request.
    pub(crate) fn push(&self, answer: Pending) {
        let mut state = self.lock();
        if let Pending::Ready(frame) = &answer {
            state.ready_bytes += frame.encoded.bytes.len();
        }
        state.queue.push_back(answer);
        if let Some(taker) = state.taker.take() {
            taker.wake();
        }
    }

    /// Says that no further answer comes.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(taker) = state.taker.take() {
            taker.wake();
        }
    }

    /// Whether some answer waits for something other than its client.
    pub(crate) fn any_waiting(&self) -> bool {
        self.lock().queue.iter().any(|answer| matches!(answer, Pending::Waiting(_)))
    }

    /// Waits for the oldest answer and takes it with all ready ones right behind it; none when the
    /// queue is closed and empty.
    pub(crate) async fn take(&self) -> Result<Vec<Frame>, String> {
        poll_fn(|cx| self.poll_take(cx)).await
    }

    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Result<Vec<Frame>, String>> {
        let mut state = self.lock();
        state.poll_waiting(cx);
        let frames = state.leading_ready();
        if frames.is_empty()
            && let Some(Pending::Failed(_)) = state.queue.front()
            && let Some(Pending::Failed(reason)) = state.queue.pop_front()
        {
            return Poll::Ready(Err(reason));
        }
        if frames.is_empty() && !(state.closed && state.queue.is_empty()) {
            state.taker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken: usize = frames.iter().map(|frame| frame.encoded.bytes.len()).sum();
        state.ready_bytes = state.ready_bytes.saturating_sub(taken);
        if let Some(pusher) = state.pusher.take() {
            pusher.wake();
        }
        Poll::Ready(Ok(frames))
    }
}

impl State {
    /// Lets every waiting answer make progress, not only the oldest.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) {
        for answer in &mut self.queue {
            let Pending::Waiting(future) = answer else { continue };
            match future.poll_unpin(cx) {
                Poll::Ready(Ok(frame)) => {
                    self.ready_bytes += frame.encoded.bytes.len();
                    *answer = Pending::Ready(frame);
                }
                Poll::Ready(Err(reason)) => *answer = Pending::Failed(reason),
                Poll::Pending => {}
            }
        }
    }

    /// Takes the ready answers that nothing older holds back.
    fn leading_ready(&mut self) -> Vec<Frame> {
        let count =
            self.queue.iter().take_while(|answer| matches!(answer, Pending::Ready(_))).count();
        let ready = self.queue.drain(..count).filter_map(|answer| match answer {
            Pending::Ready(frame) => Some(frame),
            Pending::Waiting(_) | Pending::Failed(_) => None,
        });
        ready.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use klamm_protocol::Encoded;
    use tokio::sync::oneshot;

    fn frame(text: &'static str) -> Frame {
        let bytes = Bytes::from_static(text.as_bytes());
        Frame { encoded: Encoded { bytes, gaps: Vec::new() }, pieces: Vec::new() }
    }

    fn later(text: &'static str) -> (oneshot::Sender<()>, Pending) {
        let (sender, receiver) = oneshot::channel();
        let answer = async move { receiver.await.map(|()| frame(text)).map_err(|e| e.to_string()) };
        (sender, Pending::Waiting(Box::pin(answer)))
    }

    fn taken(answers: &Answers) -> Option<Vec<Bytes>> {
        let frames = answers.take().now_or_never()?.expect("no failure");
        Some(frames.into_iter().map(|frame| frame.encoded.bytes).collect())
    }

    #[test]
    fn an_answer_that_is_ready_early_leaves_in_its_turn() {
        let answers = Answers::new(8);
        let (first, answer) = later("first");
        answers.push(answer);
        answers.push(Pending::Ready(frame("second")));
        assert_eq!(taken(&answers), None);
        first.send(()).expect("waited for");
        assert_eq!(taken(&answers), Some(vec!["first".into(), "second".into()]));
    }

    #[test]
    fn a_full_queue_has_no_room_until_an_answer_is_taken() {
        let answers = Answers::new(1);
        assert!(answers.room().now_or_never().is_some());
        answers.push(Pending::Ready(frame("one")));
        assert!(answers.room().now_or_never().is_none());
        assert!(taken(&answers).is_some());
        assert!(answers.room().now_or_never().is_some());
    }

    #[test]
    fn a_failure_comes_after_the_answers_before_it() {
        let answers = Answers::new(8);
        answers.push(Pending::Ready(frame("one")));
        let (dropped, answer) = later("never");
        answers.push(answer);
        drop(dropped);
        assert_eq!(taken(&answers), Some(vec!["one".into()]));
        assert!(answers.take().now_or_never().expect("ready").is_err());
    }

    #[test]
    fn a_closed_queue_ends_when_it_is_empty() {
        let answers = Answers::new(8);
        answers.push(Pending::Ready(frame("one")));
        answers.close();
        assert_eq!(taken(&answers), Some(vec!["one".into()]));
        assert_eq!(taken(&answers), Some(vec![]));
    }
}
