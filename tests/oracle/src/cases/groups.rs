//! FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::find_coordinator::FindCoordinatorRequest;
use klamm_protocol::messages::heartbeat::HeartbeatRequest;
use klamm_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use klamm_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use klamm_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

use super::{Behaviour, of};
use crate::case::{Case, Step, bytes};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::FindCoordinator, "keys", find),
    of(ApiKey::JoinGroup, "one member", one_member),
    of(ApiKey::JoinGroup, "refused", join_refused),
    of(ApiKey::JoinGroup, "two members", two_members),
    of(ApiKey::JoinGroup, "static member", static_member),
    of(ApiKey::SyncGroup, "refused", sync_refused),
    of(ApiKey::Heartbeat, "beats", beats),
    of(ApiKey::LeaveGroup, "leaving", leaving),
];

/// Versions at which preparations are made.
const JOIN: i16 = 5;
const SYNC: i16 = 3;
const HEARTBEAT: i16 = 3;

fn find(case: &mut Case) -> Step {
    let group = case.named("g");
    ready(case, &group)?;
    let one = |key: &str, key_type| FindCoordinatorRequest {
        key: key.to_owned(),
        key_type,
        ..Default::default()
    };
    let many = |keys: &[&str], key_type| FindCoordinatorRequest {
        key_type,
        coordinator_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..Default::default()
    };
    if case.version < 4 {
        case.ask("group", &one(&group, 0));
        case.ask("empty group", &one("", 0));
        for key_type in [2, 3, 9, -1] {
            case.ask(&format!("type {key_type}"), &one(&group, key_type));
        }
        case.ask("transaction", &one(&group, 1));
    } else {
        case.ask("group", &many(&[&group], 0));
        case.ask("groups", &many(&[&group, "", "other"], 0));
        case.ask("none", &many(&[], 0));
        for key_type in [2, 3, 9, -1] {
            case.ask(&format!("type {key_type}"), &many(&[&group], key_type));
        }
        case.ask("transaction", &many(&[&group], 1));
    }
    Ok(())
}

/// Waits until the group has a coordinator that answers.
pub(super) fn ready(case: &mut Case, group: &str) -> Step {
    let find =
        FindCoordinatorRequest { coordinator_keys: vec![group.to_owned()], ..Default::default() };
    let beat = heartbeat(group, 0, "nobody");
    for _ in 0..500 {
        let found = case.quietly(4, &find)?;
        // 14, 15 and 16: loading, not available, not here.
        if found.coordinators.iter().all(|found| found.error_code == 0) {
            let answer = case.quietly(HEARTBEAT, &beat)?;
            if ![14, 15, 16].contains(&answer.error_code) {
                return Ok(());
            }
        }
        crate::case::pause();
    }
    Err(format!("{group} has no coordinator"))
}

pub(super) fn join(version: i16, group: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version >= 1 { 30_000 } else { -1 },
        member_id: member.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![
            JoinGroupRequestProtocol { name: "range".to_owned(), metadata: bytes("r") },
            JoinGroupRequestProtocol { name: "sticky".to_owned(), metadata: bytes("s") },
        ],
        ..Default::default()
    }
}

pub(super) fn sync(
    group: &str,
    generation: i32,
    member: &str,
    assignments: &[(&str, &str)],
) -> SyncGroupRequest {
    let assignments = assignments.iter().map(|(member, assignment)| SyncGroupRequestAssignment {
        member_id: (*member).to_owned(),
        assignment: bytes(assignment),
    });
    SyncGroupRequest {
        group_id: group.to_owned(),
        generation_id: generation,
        member_id: member.to_owned(),
        assignments: assignments.collect(),
        ..Default::default()
    }
}

/// From version 5 on the protocol can be said again.
fn with_protocol(version: i16, mut request: SyncGroupRequest) -> SyncGroupRequest {
    if version >= 5 {
        request.protocol_type = Some("consumer".to_owned());
        request.protocol_name = Some("range".to_owned());
    }
    request
}

pub(super) fn heartbeat(group: &str, generation: i32, member: &str) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.to_owned(),
        generation_id: generation,
        member_id: member.to_owned(),
        ..Default::default()
    }
}

/// A group with one member that has its assignment: the member and the generation.
pub(super) fn stable(case: &mut Case, group: &str) -> Step<(String, i32)> {
    ready(case, group)?;
    let refused = case.quietly(JOIN, &join(JOIN, group, ""))?;
    let joined = case.quietly(JOIN, &join(JOIN, group, &refused.member_id))?;
    if joined.error_code != 0 {
        return Err(format!("{group}: joining ended with {}", joined.error_code));
    }
    let member = joined.member_id;
    let assigned = [(member.as_str(), "assigned")];
    let synced = case.quietly(SYNC, &sync(group, joined.generation_id, &member, &assigned))?;
    if synced.error_code != 0 {
        return Err(format!("{group}: synchronising ended with {}", synced.error_code));
    }
    Ok((member, joined.generation_id))
}

/// Joins at the case's version: from 4 on in two steps.
fn join_at(case: &mut Case, step: &str, group: &str) -> Option<JoinGroupResponse> {
    let first = case.ask(step, &join(case.version, group, ""))?;
    if first.error_code != 79 {
        return Some(first);
    }
    case.ask(&format!("{step} with id"), &join(case.version, group, &first.member_id))
}

fn one_member(case: &mut Case) -> Step {
    let group = case.named("g");
    ready(case, &group)?;
    let version = case.version;
    let Some(joined) = join_at(case, "joins", &group) else { return Ok(()) };
    let (member, generation) = (joined.member_id, joined.generation_id);
    let at = version.min(5);
    let assigned = [(member.as_str(), "everything")];
    let request = with_protocol(at, sync(&group, generation, &member, &assigned));
    case.ask_at(at, "synchronises", &request);
    case.ask_at(version.min(4), "beats", &heartbeat(&group, generation, &member));
    // The leader of a group joins again: a new generation.
    let again = case.ask("joins again", &join(version, &group, &member));
    let generation = again.map_or(0, |again| again.generation_id);
    case.ask_at(version.min(4), "beats between", &heartbeat(&group, generation, &member));
    let request = with_protocol(at, sync(&group, generation, &member, &assigned));
    case.ask_at(at, "synchronises again", &request);
    Ok(())
}

fn join_refused(case: &mut Case) -> Step {
    let version = case.version;
    let group = case.named("g");
    ready(case, &group)?;
    case.ask("empty group", &join(version, "", ""));
    for session_timeout_ms in [0, -1, 100, 1_800_001] {
        let request = JoinGroupRequest { session_timeout_ms, ..join(version, &group, "") };
        case.ask(&format!("session timeout {session_timeout_ms}"), &request);
    }
    case.ask("unknown member", &join(version, &group, "stranger"));
    let none = JoinGroupRequest { protocols: Vec::new(), ..join(version, &group, "") };
    case.ask("no protocols", &none);
    let typeless = JoinGroupRequest { protocol_type: String::new(), ..join(version, &group, "") };
    case.ask("no protocol type", &typeless);
    let (member, _) = stable(case, &group)?;
    let other =
        JoinGroupRequest { protocol_type: "connect".to_owned(), ..join(version, &group, "") };
    case.ask("another protocol type", &other);
    let mut other = join(version, &group, "");
    other.protocols =
        vec![JoinGroupRequestProtocol { name: "odd".to_owned(), metadata: bytes("") }];
    case.ask("no protocol in common", &other);
    case.ask("unknown member of a stable group", &join(version, &group, "stranger"));
    let instance = JoinGroupRequest {
        group_instance_id: Some("nobody's".to_owned()),
        ..join(version, &group, &member)
    };
    case.ask("instance of a dynamic member", &instance);
    Ok(())
}

fn two_members(case: &mut Case) -> Step {
    let group = case.named("g");
    let version = case.version;
    let (first, generation) = stable(case, &group)?;
    let mut second = case.connect()?;
    let mut joining = join(version, &group, "");
    if version >= 4 {
        // The id comes at once, the generation only when the first member has joined too.
        let refused = case.quietly(version, &joining)?;
        joining.member_id = refused.member_id;
    }
    let Some(id) = case.send_on(&mut second, version, &joining) else { return Ok(()) };
    await_rebalance(case, &group, generation, &first);
    case.ask_at(3, "rebalance", &heartbeat(&group, generation, &first));
    let led = case.ask("first joins", &join(version, &group, &first));
    let joined = case.receive_on::<JoinGroupRequest>(&mut second, version, "second joins", id);
    let (Some(led), Some(joined)) = (led, joined) else { return Ok(()) };
    let generation = led.generation_id;
    let other = joined.member_id;
    let waits = sync(&group, generation, &other, &[]);
    let Some(id) = case.send_on(&mut second, SYNC, &waits) else { return Ok(()) };
    let both = [(first.as_str(), "one"), (other.as_str(), "two")];
    case.ask_at(SYNC, "first synchronises", &sync(&group, generation, &first, &both));
    case.receive_on::<SyncGroupRequest>(&mut second, SYNC, "second synchronises", id);
    case.ask_at(3, "second beats", &heartbeat(&group, generation, &other));
    case.ask("second as before", &join(version, &group, &other));
    Ok(())
}

fn await_rebalance(case: &mut Case, group: &str, generation: i32, member: &str) {
    for _ in 0..500 {
        let answer = case.quietly(HEARTBEAT, &heartbeat(group, generation, member));
        if answer.is_ok_and(|answer| answer.error_code != 0) {
            return;
        }
        crate::case::pause();
    }
}

fn static_member(case: &mut Case) -> Step {
    let version = case.version;
    if version < 5 {
        return Ok(());
    }
    let group = case.named("g");
    ready(case, &group)?;
    let named = |member: &str| JoinGroupRequest {
        group_instance_id: Some("i-1".to_owned()),
        ..join(version, &group, member)
    };
    let Some(joined) = case.ask("joins", &named("")) else { return Ok(()) };
    let (old, generation) = (joined.member_id, joined.generation_id);
    let mut synced = sync(&group, generation, &old, &[(&old, "mine")]);
    synced.group_instance_id = Some("i-1".to_owned());
    case.ask_at(3, "synchronises", &synced);
    let Some(back) = case.ask("comes back", &named("")) else { return Ok(()) };
    let new = back.member_id;
    let mut beat = heartbeat(&group, generation, &old);
    beat.group_instance_id = Some("i-1".to_owned());
    case.ask_at(3, "old one beats", &beat);
    beat.member_id.clone_from(&new);
    case.ask_at(3, "new one beats", &beat);
    let mut synced = sync(&group, generation, &new, &[]);
    synced.group_instance_id = Some("i-1".to_owned());
    case.ask_at(3, "new one synchronises", &synced);
    case.ask("old one joins", &named(&old));
    let stranger = JoinGroupRequest {
        group_instance_id: Some("i-2".to_owned()),
        ..join(version, &group, &new)
    };
    case.ask("new one under another name", &stranger);
    let leave = LeaveGroupRequest {
        group_id: group.clone(),
        members: vec![MemberIdentity {
            group_instance_id: Some("i-1".to_owned()),
            ..Default::default()
        }],
        ..Default::default()
    };
    case.ask_at(3, "leaves by name", &leave);
    Ok(())
}

fn sync_refused(case: &mut Case) -> Step {
    let version = case.version;
    let group = case.named("g");
    let (member, generation) = stable(case, &group)?;
    let ask = |case: &mut Case, step: &str, request: SyncGroupRequest| {
        case.ask(step, &with_protocol(version, request));
    };
    ask(case, "again", sync(&group, generation, &member, &[]));
    ask(case, "unknown group", sync(&case.named("missing"), 1, &member, &[]));
    ask(case, "empty group", sync("", 1, &member, &[]));
    ask(case, "unknown member", sync(&group, generation, "stranger", &[]));
    ask(case, "old generation", sync(&group, generation - 1, &member, &[]));
    ask(case, "new generation", sync(&group, generation + 1, &member, &[]));
    if version >= 5 {
        let mut other = with_protocol(version, sync(&group, generation, &member, &[]));
        other.protocol_type = Some("connect".to_owned());
        case.ask("another type", &other);
        other.protocol_type = Some("consumer".to_owned());
        other.protocol_name = Some("sticky".to_owned());
        case.ask("another protocol", &other);
        case.ask("no protocol", &sync(&group, generation, &member, &[]));
    }
    if version >= 3 {
        let mut other = with_protocol(version, sync(&group, generation, &member, &[]));
        other.group_instance_id = Some("nobody's".to_owned());
        case.ask("unknown instance", &other);
    }
    Ok(())
}

fn beats(case: &mut Case) -> Step {
    let group = case.named("g");
    let (member, generation) = stable(case, &group)?;
    case.ask("good", &heartbeat(&group, generation, &member));
    case.ask("unknown group", &heartbeat(&case.named("missing"), generation, &member));
    case.ask("empty group", &heartbeat("", generation, &member));
    case.ask("unknown member", &heartbeat(&group, generation, "stranger"));
    case.ask("empty member", &heartbeat(&group, generation, ""));
    case.ask("old generation", &heartbeat(&group, generation - 1, &member));
    case.ask("new generation", &heartbeat(&group, generation + 1, &member));
    let mut named = heartbeat(&group, generation, &member);
    named.group_instance_id = Some("nobody's".to_owned());
    case.ask("unknown instance", &named);
    Ok(())
}

fn leaving(case: &mut Case) -> Step {
    let version = case.version;
    let group = case.named("g");
    let (member, generation) = stable(case, &group)?;
    let leave = |group: &str, ids: &[&str]| {
        let mut request = LeaveGroupRequest { group_id: group.to_owned(), ..Default::default() };
        if version < 3 {
            request.member_id = ids.first().copied().unwrap_or_default().to_owned();
        } else {
            let identity =
                |id: &&str| MemberIdentity { member_id: (*id).to_owned(), ..Default::default() };
            request.members = ids.iter().map(identity).collect();
        }
        request
    };
    case.ask("unknown group", &leave(&case.named("missing"), &[&member]));
    case.ask("empty group", &leave("", &[&member]));
    case.ask("unknown member", &leave(&group, &["stranger"]));
    case.ask("nobody", &leave(&group, &[]));
    case.ask("two, one unknown", &leave(&group, &[&member, "stranger"]));
    case.ask("again", &leave(&group, &[&member]));
    case.ask_at(3, "beats", &heartbeat(&group, generation, &member));
    Ok(())
}
