//! The outside world behind traits: clocks, randomness, network, files, threads.
