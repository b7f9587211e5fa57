//! Live delivery: feed → hub → streams.
//!
//! Invariant: an open stream holds a place in the hub and nothing else: no database connection,
//! cursor or session. Notifications in MongoDB are the only truth; the hub only brings them sooner.

pub mod feed;
pub mod hub;
pub mod stream;
