//! The Rust client: producer, consumer, admin.
