//! What the end-to-end tests are made of: a world per test, ways to wait, and ways to look at MongoDB, Kafka
//! and records beside the services.

#![expect(clippy::print_stdout, reason = "cargo shows what a failed test has printed")]

pub mod chats;
pub mod eventually;
pub mod load;
pub mod missed;
pub mod proxy;
pub mod reader;
pub mod records;
pub mod topic;
pub mod wire;
pub mod world;
