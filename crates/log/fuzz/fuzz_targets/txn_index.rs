//! Any bytes as `Kind::TxnIndex`, see the harness.
#![no_main]

#[path = "../../../protocol/fuzz/allocations.rs"]
mod allocations;
#[expect(dead_code, reason = "every target uses a part of it")]
#[path = "../harness/mod.rs"]
mod harness;

use allocations::assert_bounded as bounded;
use harness::{Kind, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| run(Kind::TxnIndex, input));
