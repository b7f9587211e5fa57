//! Every list that the API can be asked for, with a million posts: which plan PostgreSQL has for it, how many
//! rows that reads, and that the answer is right.
//!
//! Plans are those of the statements that the service sent, as PostgreSQL wrote them into its log when it had
//! carried them out. Each list is read with plans made for its values and with plans made for any.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helper functions too"
)]
#![expect(clippy::print_stdout, reason = "cargo shows what a failed test has printed")]

mod lists;
mod plan;
mod posts;
#[path = "../api/service.rs"]
#[expect(dead_code, reason = "the tests of the API use all of it")]
mod service;
