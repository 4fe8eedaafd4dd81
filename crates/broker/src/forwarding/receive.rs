//! The controller's side: what other brokers ask. It answers for itself alone: a question that is
//! meant for another controller is refused, never passed on, so that none can go round in circles.

use klamm_cluster::controller::{ControllerState, TopicDefaults};
use klamm_cluster::{ControllerHandle, Member, Refusal};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::ask_controller::{
    AskControllerRequest, AskControllerResponse, AskedResult,
};

use super::ControllerClient;
use super::configs::AlterConfigs;
use super::elections::{ElectLeaders, NO_ELECTION};
use super::needs::{FlushSynced, ProducerIdsFor, TakeOffline};
use super::question::{Question, shortened};
use super::topics::{CreatePartitions, CreateTopics, DeleteTopics};

impl ControllerClient {
    /// Answers another broker, which has asked on `listener`.
    pub(crate) async fn answer(
        &self,
        listener: &str,
        request: AskControllerRequest,
    ) -> AskControllerResponse {
        let answered = match self.admit(listener, &request) {
            Ok(controller) => carry_out(&controller, request).await,
            Err(refusal) => Err(refusal),
        };
        match answered {
            Ok(results) => AskControllerResponse { results, ..Default::default() },
            Err(refusal) => AskControllerResponse {
                error_code: refusal.code.as_i16(),
                error_message: Some(shortened(refusal.message)),
                ..Default::default()
            },
        }
    }

    /// The controller that is asked, if it is this one, and if who asks may.
    fn admit(
        &self,
        listener: &str,
        request: &AskControllerRequest,
    ) -> Result<ControllerHandle, Refusal> {
        let refused = |code, message: String| Err(Refusal::new(code, message));
        let image = self.images.current();
        let own = image.broker(self.broker_id);
        if own.is_none_or(|own| own.inter_broker_listener != listener) {
            let message = format!("Brokers do not speak to each other on listener {listener}.");
            return refused(ErrorCode::ClusterAuthorizationFailed, message);
        }
        let asker = request.broker_id;
        match image.broker(asker).map(|broker| broker.broker_epoch) {
            Some(epoch) if epoch == request.broker_epoch => {}
            Some(epoch) => {
                let message = format!(
                    "Broker {asker} is registered in epoch {epoch}, not {}.",
                    request.broker_epoch
                );
                return refused(ErrorCode::StaleBrokerEpoch, message);
            }
            None => {
                let message = format!("Broker {asker} is not registered.");
                return refused(ErrorCode::ClusterAuthorizationFailed, message);
            }
        }
        match *self.here.state().borrow() {
            ControllerState::Active { epoch } if epoch == request.controller_epoch => {
                Ok(self.here.within(epoch))
            }
            state => {
                let message = format!(
                    "Broker {} is {state:?}, not the controller of epoch {}.",
                    self.broker_id, request.controller_epoch
                );
                refused(ErrorCode::NotController, message)
            }
        }
    }
}

async fn carry_out(
    controller: &ControllerHandle,
    request: AskControllerRequest,
) -> Result<Vec<AskedResult>, Refusal> {
    if !asks_one_thing(&request) {
        return Err(senseless());
    }
    let validate_only = request.validate_only;
    let member = Member { id: request.broker_id, epoch: request.broker_epoch };
    if let Some(topics) = request.new_topics {
        let defaults = TopicDefaults {
            partitions: request.default_partitions,
            replication_factor: request.default_replication_factor,
        };
        return put(controller, CreateTopics::from_wire(topics, defaults, validate_only)).await;
    }
    if let Some(deletions) = request.deletions {
        return put(controller, DeleteTopics::from_wire(deletions)).await;
    }
    if let Some(more) = request.more_partitions {
        return put(controller, CreatePartitions::from_wire(more, validate_only)).await;
    }
    if let Some(alterations) = request.alterations {
        let question = AlterConfigs::from_wire(alterations, validate_only);
        return put(controller, question.ok_or_else(senseless)?).await;
    }
    if let Some([synced]) = request.synced.as_deref() {
        return put(controller, FlushSynced::from_wire(synced)).await;
    }
    if let Some(offline) = request.offline {
        return put(controller, TakeOffline::from_wire(member, &offline)).await;
    }
    if request.producer_ids {
        return put(controller, ProducerIdsFor(member)).await;
    }
    let question = ElectLeaders::from_wire(request.election_type, request.elections);
    put(controller, question.ok_or_else(senseless)?).await
}

fn asks_one_thing(request: &AskControllerRequest) -> bool {
    let asked = [
        request.new_topics.is_some(),
        request.deletions.is_some(),
        request.more_partitions.is_some(),
        request.alterations.is_some(),
        request.election_type != NO_ELECTION,
        request.producer_ids,
        request.synced.is_some(),
        request.offline.is_some(),
    ];
    asked.into_iter().filter(|asked| *asked).count() == 1
}

fn senseless() -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, "It is not clear what is asked.")
}

async fn put<Q: Question>(
    controller: &ControllerHandle,
    question: Q,
) -> Result<Vec<AskedResult>, Refusal> {
    let answers = question.ask(controller).await;
    let result = |answer: Result<Q::Done, Refusal>| match answer {
        Ok(done) => Q::to_result(done),
        Err(refusal) => AskedResult {
            error_code: refusal.code.as_i16(),
            error_message: Some(shortened(refusal.message)),
            ..Default::default()
        },
    };
    Ok(answers.into_iter().map(result).collect())
}
