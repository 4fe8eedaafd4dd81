//! InitProducerId and the sequences of producers.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::produce::send;
use super::{Behaviour, of};
use crate::batches::Plan;
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::InitProducerId, "ids", ids),
    of(ApiKey::InitProducerId, "refused", refused),
    of(ApiKey::Produce, "sequences", sequences),
    of(ApiKey::Produce, "transactional batches", transactional),
];

fn init(id: Option<&str>, timeout_ms: i32) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: id.map(str::to_owned),
        transaction_timeout_ms: timeout_ms,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}

fn ids(case: &mut Case) -> Step {
    // The first block of ids may have to be fetched.
    let there = |answer: &InitProducerIdResponse| answer.error_code != 14;
    let first = case.ask_until("first", &init(None, 60_000), there);
    let first = first.map(|answer| answer.producer_id);
    let second = case.ask("second", &init(None, 60_000)).map(|answer| answer.producer_id);
    case.note("ids", "differ", (first != second).to_string());
    for timeout_ms in [0, -1, i32::MAX] {
        case.ask(&format!("timeout {timeout_ms}"), &init(None, timeout_ms));
    }
    Ok(())
}

fn refused(case: &mut Case) -> Step {
    case.ask("empty id", &init(Some(""), 60_000));
    let known = InitProducerIdRequest { producer_id: 4, producer_epoch: 0, ..init(None, 60_000) };
    case.ask("id without transaction", &known);
    case.ask("epoch without id", &InitProducerIdRequest { producer_id: -1, ..known.clone() });
    case.ask("id without epoch", &InitProducerIdRequest { producer_epoch: -1, ..known });
    let name = case.named("txn");
    case.ask("transactional id", &init(Some(&name), 60_000));
    Ok(())
}

fn sequences(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 2)?;
    let id = case.quietly(4, &init(None, 60_000))?.producer_id;
    let mut step = |step: &str, partition: i32, epoch: i16, sequence: i32, values: &[&str]| {
        let records = Plan::of(values).from(id, epoch, sequence).build();
        case.ask(step, &send(&name, partition, records));
    };
    step("first", 0, 0, 0, &["a", "b"]);
    step("again", 0, 0, 0, &["a", "b"]);
    step("next", 0, 0, 2, &["c"]);
    step("gap", 0, 0, 9, &["x"]);
    step("overlap", 0, 0, 1, &["b", "c"]);
    step("last part", 0, 0, 2, &["c", "d"]);
    for sequence in 3..9 {
        step("run", 0, 0, sequence, &["r"]);
    }
    step("within the window", 0, 0, 4, &["r"]);
    step("out of the window", 0, 0, 0, &["a", "b"]);
    step("newer epoch", 0, 1, 0, &["n"]);
    step("newer epoch not from zero", 0, 2, 5, &["n"]);
    step("older epoch", 0, 0, 9, &["o"]);
    step("not from zero", 1, 0, 7, &["z"]);
    step("after that", 1, 0, 8, &["z"]);
    step("the last sequence", 1, 1, 0, &["z"]);
    step("negative epoch", 1, -1, 0, &["z"]);
    step("negative sequence", 1, 1, -1, &["z"]);
    let records = Plan::of(&["s"]).from(987_654_321, 3, 0).build();
    case.ask("stranger", &send(&name, 1, records));
    let records = Plan::of(&["s"]).from(987_654_322, 0, i32::MAX).build();
    case.ask("stranger at the last sequence", &send(&name, 1, records));
    let records = Plan::of(&["s"]).from(987_654_322, 0, 0).build();
    case.ask("after the last comes zero", &send(&name, 1, records));
    Ok(())
}

fn transactional(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 1)?;
    let mut plan = Plan::of(&["x"]).from(5, 0, 0);
    plan.transactional = true;
    case.ask("without an id in the request", &send(&name, 0, plan.build()));
    let mut request = send(&name, 0, plan.build());
    request.transactional_id = Some(case.named("txn"));
    case.ask("with an id in the request", &request);
    let mut request = send(&name, 0, Plan::of(&["x"]).build());
    request.transactional_id = Some(case.named("txn"));
    case.ask("plain batch with an id in the request", &request);
    Ok(())
}
