//! Group and offset coordinators as pure state machines: no I/O, no clock.
