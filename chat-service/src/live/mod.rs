//! Live delivery: feed → hub → mailboxes → streams, with a sweep below and MongoDB behind.
//!
//! Invariant: an open stream holds a place in the hub and nothing else: no database connection,
//! cursor or session. Notifications in MongoDB are the only truth; the hub only brings them sooner.

pub mod feed;
pub mod hub;
pub mod mailbox;
pub mod replay;
pub mod stream;
pub mod sweep;
