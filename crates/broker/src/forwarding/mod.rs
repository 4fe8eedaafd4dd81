//! The controller, wherever it is: handlers ask [`ControllerClient`], which asks this process's
//! controller or, on the inter-broker listener, the broker that holds the office.
//!
//! Not the client's request travels but what this broker makes of it: a [`Question`]. Checks that
//! need no controller, and the answer in the client's version, are made where the client is; whether
//! a topic exists says the controller alone, as this broker's image may trail. The brokers' own
//! needs (topics that come into being by themselves, producer ids, the flush class, offline
//! directories) take the same way.
//!
//! - Every try is for one controller epoch. A controller of another epoch refuses it, and so does a
//!   broker that is none: nobody passes a question on. Whoever asks looks again who the controller
//!   is, until the patience of the question is over; then the answer is NOT_CONTROLLER.
//! - A try whose answer is lost may have been carried out, or may be yet. A question that does no
//!   harm twice is put again at once. Any other is put again only to a controller of a higher epoch:
//!   by then the earlier one can write nothing any more (R8). Meanwhile the image is looked at: what
//!   it shows as done is done (R27). A topic gets another id with each try, so that it is known by
//!   its id which try has made it. What is not known in the end is REQUEST_TIMED_OUT.
//! - A connection serves one question. They are rare, and one that was kept would be lost by
//!   idleness just when it is used, with an outcome that nobody knows.

mod configs;
mod elections;
mod needs;
mod question;
mod receive;
#[cfg(test)]
mod tests;
mod topics;

use std::time::Duration;

use klamm_cluster::controller::ControllerState;
use klamm_cluster::nodes::broker::Endpoint;
use klamm_cluster::{ControllerHandle, Image, ImageWatch, Refusal};
use klamm_env::Env;
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::ask_controller::{AskControllerResponse, AskedResult};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use crate::fence::Fence;
use crate::membership::Membership;
use crate::peer::{Peer, PeerError, PeerSettings, inter_broker_endpoint};
pub(crate) use configs::AlterConfigs;
pub(crate) use elections::ElectLeaders;
pub(crate) use needs::{FlushSynced, ProducerIdsFor, TakeOffline};
use question::{Again, Answers, Question};
pub(crate) use topics::{CreatePartitions, CreateTopics, DeleteTopics};

/// Longest patience with a client's question, whatever its request says.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// Pause between two tries; Kafka's `retry.backoff.ms`.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for a connection to the controller.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest answer of a controller: as long as a request may be, with a sentence for each of a hundred
/// thousand items.
const ANSWER_BYTES_MAX: usize = 100 << 20;
/// Questions to another broker at the same time, each with its connection; further ones wait.
const FORWARDED_MAX: usize = 64;
/// Longest wait for the image to show that a question is done which is not to be put again.
const REVIEW_MAX: Duration = Duration::from_secs(1);

/// The patience with a request that waits `timeout_ms` for its answer.
pub(crate) fn patience(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).min(PATIENCE_MAX)
}

/// Asks the controller.
pub(crate) struct ControllerClient {
    env: Env,
    broker_id: i32,
    /// This process's.
    here: ControllerHandle,
    images: ImageWatch,
    fence: Fence,
    /// Bounds the connections to other brokers.
    slots: Semaphore,
}

/// A controller that can be asked.
enum Whom {
    Here(i32),
    There { broker: i32, endpoint: Endpoint, epoch: i32 },
}

impl Whom {
    fn epoch(&self) -> i32 {
        match self {
            Whom::Here(epoch) | Whom::There { epoch, .. } => *epoch,
        }
    }
}

/// What became of one try.
enum Tried<T> {
    Answered(Vec<Result<T, Refusal>>),
    /// It was not carried out, and will not be.
    NotDone(String),
    /// It may have been carried out, or may be yet.
    Unclear(String),
}

/// How it stands with a question.
struct Course {
    deadline: Instant,
    /// The newest epoch with an unclear try.
    in_doubt: Option<i32>,
    /// Why there is no answer yet.
    reason: String,
}

impl ControllerClient {
    /// Of this process.
    pub(crate) fn new(env: Env, membership: &Membership) -> ControllerClient {
        let (here, images) = (membership.controller().clone(), membership.images().clone());
        ControllerClient::of(env, membership.broker_id(), here, images, membership.fence())
    }

    fn of(
        env: Env,
        broker_id: i32,
        here: ControllerHandle,
        images: ImageWatch,
        fence: Fence,
    ) -> ControllerClient {
        ControllerClient {
            env,
            broker_id,
            here,
            images,
            fence,
            slots: Semaphore::new(FORWARDED_MAX),
        }
    }

    /// This process's controller, for what clients take to the controller themselves: it refuses with
    /// NOT_CONTROLLER where another broker decides.
    pub(crate) fn here(&self) -> &ControllerHandle {
        &self.here
    }

    /// Puts a question, and waits for a controller, or for another broker's answer, no longer than
    /// `patience`; this process's own controller answers within its session. One answer per item, in
    /// order; it comes after the change is in the tree, which images show a moment later.
    pub(crate) async fn ask<Q: Question>(&self, mut question: Q, patience: Duration) -> Answers<Q> {
        let mut course = Course {
            deadline: Instant::now() + patience,
            in_doubt: None,
            reason: "nobody is known to be the controller".to_owned(),
        };
        loop {
            if course.in_doubt.is_some() && all_seen(&question, &self.images.current()) {
                break;
            }
            if *self.here.state().borrow() == ControllerState::Stopped {
                break;
            }
            if let Some(whom) = self.whom().filter(|whom| may_try(&question, &course, whom)) {
                question.before_try(&*self.env.random);
                let tried = self.put(&question, &whom, course.deadline).await;
                match tried {
                    Tried::Answered(answers) => {
                        return self.review(&question, answers, &course).await;
                    }
                    Tried::NotDone(reason) => course.reason = reason,
                    Tried::Unclear(reason) => {
                        course.in_doubt = course.in_doubt.max(Some(whom.epoch()));
                        course.reason = reason;
                        if question.again() == Again::Never {
                            let enough = Instant::now() + REVIEW_MAX;
                            course.deadline = course.deadline.min(enough);
                        }
                    }
                }
                debug!(reason = course.reason, "the controller gave no answer");
            }
            let left = course.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sleep(RETRY_PAUSE.min(left)).await;
        }
        self.give_up(&question, &course)
    }

    /// The same, for a question of one item.
    pub(crate) async fn ask_one<Q: Question>(
        &self,
        question: Q,
        patience: Duration,
    ) -> Result<Q::Done, Refusal> {
        self.ask(question, patience).await.pop().expect("one answer per item")
    }

    fn whom(&self) -> Option<Whom> {
        if let ControllerState::Active { epoch } = *self.here.state().borrow() {
            return Some(Whom::Here(epoch));
        }
        let image = self.images.current();
        let broker = image.controller().filter(|id| *id != self.broker_id)?;
        let endpoint = inter_broker_endpoint(&image, broker)?.clone();
        Some(Whom::There { broker, endpoint, epoch: image.controller_epoch() })
    }

    async fn put<Q: Question>(
        &self,
        question: &Q,
        whom: &Whom,
        deadline: Instant,
    ) -> Tried<Q::Done> {
        match whom {
            Whom::Here(epoch) => of_items(question.ask(&self.here.within(*epoch)).await),
            Whom::There { broker, endpoint, epoch } => {
                let answer = self.forward(question, (*broker, endpoint, *epoch), deadline).await;
                match answer {
                    Ok(response) => of_response::<Q>(question, response),
                    Err(tried) => tried,
                }
            }
        }
    }

    async fn forward<Q: Question>(
        &self,
        question: &Q,
        (broker, endpoint, controller_epoch): (i32, &Endpoint, i32),
        deadline: Instant,
    ) -> Result<AskControllerResponse, Tried<Q::Done>> {
        let Ok(slot) = timeout_at(deadline, self.slots.acquire()).await else {
            let reason = format!("{FORWARDED_MAX} other questions are on their way");
            return Err(Tried::NotDone(reason));
        };
        let _slot = slot.expect("nobody closes it");
        let left = || deadline.saturating_duration_since(Instant::now());
        let settings = PeerSettings {
            client_id: format!("broker-{}", self.broker_id),
            timeout: left().min(CONNECT_MAX),
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let peer = Peer::connect(&self.env, broker, endpoint, &settings).await;
        let mut peer = peer.map_err(|error| Tried::NotDone(error.to_string()))?;
        let mut request = question.to_wire();
        request.broker_id = self.broker_id;
        request.broker_epoch = self.fence.broker_epoch();
        request.controller_epoch = controller_epoch;
        peer.call(&request, left()).await.map_err(|error| match error {
            PeerError::Connect { .. } => Tried::NotDone(error.to_string()),
            PeerError::Encode { .. } => {
                let refusal = Refusal::new(ErrorCode::UnknownServerError, error.to_string());
                Tried::Answered(all_refused(question, &refusal))
            }
            _ => Tried::Unclear(error.to_string()),
        })
    }

    /// A refusal may mean that an earlier try was carried out after all.
    async fn review<Q: Question>(
        &self,
        question: &Q,
        mut answers: Answers<Q>,
        course: &Course,
    ) -> Answers<Q> {
        let refused: Vec<usize> =
            answers.iter().enumerate().filter(|(_, of)| of.is_err()).map(|(n, _)| n).collect();
        if course.in_doubt.is_none() || refused.is_empty() {
            return answers;
        }
        let seen = self
            .images
            .wait_for(|image| refused.iter().all(|item| question.seen(image, *item).is_some()));
        // Without an image that shows all of it, the newest one has to do.
        let image = timeout(REVIEW_MAX, seen).await.unwrap_or_else(|_| self.images.current());
        for item in refused {
            if let Some(done) = question.seen(&image, item) {
                answers[item] = Ok(done);
            }
        }
        answers
    }

    fn give_up<Q: Question>(&self, question: &Q, course: &Course) -> Answers<Q> {
        let image = self.images.current();
        let reason = &course.reason;
        if course.in_doubt.is_none() || !all_seen(question, &image) {
            warn!("a question to the controller was not answered in time: {reason}");
        }
        let answer = |item| match course.in_doubt {
            None => {
                let message = format!("The controller was not reached in time: {reason}.");
                Err(Refusal::new(ErrorCode::NotController, message))
            }
            Some(_) => question.seen(&image, item).ok_or_else(|| {
                let message = format!("It is not known whether this was done: {reason}.");
                Refusal::new(ErrorCode::RequestTimedOut, message)
            }),
        };
        (0..question.items()).map(answer).collect()
    }
}

/// Whether `whom` may be asked, for all that earlier tries may have done or may do yet.
fn may_try<Q: Question>(question: &Q, course: &Course, whom: &Whom) -> bool {
    match (course.in_doubt, question.again()) {
        (None, _) | (Some(_), Again::AtOnce) => true,
        (Some(epoch), Again::NextEpoch) => whom.epoch() > epoch,
        (Some(_), Again::Never) => false,
    }
}

fn all_seen<Q: Question>(question: &Q, image: &Image) -> bool {
    (0..question.items()).all(|item| question.seen(image, item).is_some())
}

fn all_refused<Q: Question>(question: &Q, refusal: &Refusal) -> Answers<Q> {
    (0..question.items()).map(|_| Err(refusal.clone())).collect()
}

/// A controller whose office ends in the middle of its work refuses what it may have done.
fn of_items<T>(answers: Vec<Result<T, Refusal>>) -> Tried<T> {
    let ended = |answer: &Result<T, Refusal>| {
        answer.as_ref().is_err_and(|refusal| refusal.code == ErrorCode::NotController)
    };
    if answers.iter().any(ended) {
        return Tried::Unclear("the controller's office ended meanwhile".to_owned());
    }
    Tried::Answered(answers)
}

fn of_response<Q: Question>(question: &Q, response: AskControllerResponse) -> Tried<Q::Done> {
    let code = ErrorCode::from_wire(response.error_code);
    let message = || response.error_message.clone().unwrap_or_else(|| code.message().to_owned());
    match code {
        ErrorCode::None => {}
        ErrorCode::NotController
        | ErrorCode::StaleBrokerEpoch
        | ErrorCode::ClusterAuthorizationFailed => {
            return Tried::NotDone(message().trim_end_matches('.').to_owned());
        }
        code => return Tried::Answered(all_refused(question, &Refusal::new(code, message()))),
    }
    let (given, due) = (response.results.len(), question.items());
    if given != due {
        return Tried::Unclear(format!("{given} answers came to {due} questions"));
    }
    let answer = |result: AskedResult| match ErrorCode::from_wire(result.error_code) {
        ErrorCode::None => Ok(Q::from_result(result)),
        code => {
            let message = result.error_message.unwrap_or_else(|| code.message().to_owned());
            Err(Refusal::new(code, message))
        }
    };
    of_items(response.results.into_iter().map(answer).collect())
}
