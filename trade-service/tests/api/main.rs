//! The API against a real PostgreSQL: one server for all tests, a database for each.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helper functions too"
)]

mod change;
mod create;
mod delete;
mod favorites;
mod hostile;
mod idempotency;
mod keys;
mod keywords;
mod lifecycle;
mod list;
mod me;
mod migrations;
mod openapi;
mod outage;
mod pressure;
mod problems;
mod proxy;
mod read;
mod schema;
mod service;
mod status;
mod views;
