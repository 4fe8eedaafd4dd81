//! One partition on disk, synchronous.
