//! What captured changes cost MongoDB and how erasing goes on, on a real MongoDB and without Kafka: plans are
//! carried out and erasers run as chat-service does it.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod bed;
mod beginnings;
mod commands;
mod erasing;
mod leases;
mod matches;
mod projection;
mod reconciling;
