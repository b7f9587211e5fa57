//! Writer schemas against a real MongoDB and a server that answers as the registry does, or does not: what
//! it answers can be chosen here, and an id cannot be given out twice by one that works. The real registry
//! is in the end-to-end tests.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod answers;
mod server;
