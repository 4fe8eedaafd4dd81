//! The kernel's random bytes.

use crate::Random;

pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the kernel has random bytes");
    }
}
