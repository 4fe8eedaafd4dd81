//! What no client should send.

use klamm_protocol::ApiKey;

use super::{Behaviour, of};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[of(ApiKey::ApiVersions, "malformed frames", frames).long()];

fn frames(case: &mut Case) -> Step {
    let plain: &[(&str, &[u8])] = &[
        ("negative length", &[0xff, 0xff, 0xff, 0xff]),
        ("length of 2 GiB", &[0x7f, 0xff, 0xff, 0xff, 0, 0]),
        ("empty frame", &[0, 0, 0, 0]),
        ("header cut", &[0, 0, 0, 3, 0, 18, 0]),
        ("key nobody has", &[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        ("negative key", &[0, 0, 0, 10, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        ("version nobody has", &[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff]),
        ("key between brokers", &[0, 0, 0, 10, 0, 4, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        ("old produce", &[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff]),
        ("metadata cut", &[0, 0, 0, 12, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0]),
        (
            "array of a billion",
            &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x3b, 0x9a, 0xca, 0],
        ),
    ];
    for (step, bytes) in plain {
        case.raw(step, |_| bytes.to_vec());
    }
    Ok(())
}
