//! The library and the command against a real Kafka Connect with Debezium, PostgreSQL and the registry.
//! Every test has a database, a connector, a slot and topics of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod access;
mod apply;
mod command;
mod doctor;
mod faults;
mod files;
mod front;
mod interrupted;
mod lifecycle;
mod run;
mod surroundings;
mod terminal;
mod watch;
mod world;
