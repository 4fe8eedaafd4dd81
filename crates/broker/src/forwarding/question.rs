//! What a question to the controller is, here and on the wire.

use futures_util::future::BoxFuture;
use klamm_cluster::{ControllerHandle, Image, Refusal};
use klamm_env::Random;
use klamm_protocol::messages::ask_controller::{AskControllerRequest, AskedResult};

/// When a question may be put again whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// At once: being done twice, however much later, it does no harm.
    AtOnce,
    /// To the next controller: nothing that the last one was asked can be done any more (R8).
    NextEpoch,
    /// Not at all.
    Never,
}

/// The answers to a question, one for each of its items.
pub(crate) type Answers<Q> = Vec<Result<<Q as Question>::Done, Refusal>>;

/// Something that the controller is asked to do.
pub(crate) trait Question: Send + Sync {
    /// What becomes of one item.
    type Done: Send;

    /// Number of items.
    fn items(&self) -> usize;

    /// What to do when an answer was lost.
    fn again(&self) -> Again;

    /// Called before each time that the question is put.
    fn before_try(&mut self, _random: &dyn Random) {}

    /// Asks this process's controller.
    fn ask<'a>(&'a self, controller: &'a ControllerHandle) -> BoxFuture<'a, Answers<Self>>
    where
        Self: Sized;

    /// For another broker.
    fn to_wire(&self) -> AskControllerRequest;

    /// What the controller answered for an item.
    fn from_result(result: AskedResult) -> Self::Done;

    /// The same, for the broker that asked.
    fn to_result(done: Self::Done) -> AskedResult;

    /// Whether this image shows that an item was done. Looked at when an answer was lost.
    fn seen(&self, _image: &Image, _item: usize) -> Option<Self::Done> {
        None
    }
}

/// Bytes of a sentence on the wire at most, however much of a client's own words it repeats.
const MESSAGE_LEN_MAX: usize = 1000;

/// A sentence that fits.
pub(super) fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_LEN_MAX {
        let mut end = MESSAGE_LEN_MAX;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}
