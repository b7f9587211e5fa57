//! chat-service against a real MongoDB: the API as members and operators use it, and the effect of
//! captured changes. Kafka and the registry are not needed here and are at addresses that refuse;
//! the way through them is in the end-to-end tests.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod blocks;
mod changed_ids;
mod changes;
mod chat;
mod dead_letters;
mod deletion;
mod demo;
mod erasure;
mod events;
mod gaps;
mod instances;
mod kept;
mod keys;
mod leaving;
mod limits;
mod live;
mod matched;
mod members;
mod messages;
mod moves;
mod notifications;
mod openapi;
mod orphans;
mod pool;
mod projection;
mod queries;
mod reading;
mod reconciliations;
mod refusals;
mod resume;
mod rooms;
mod session;
mod wire;
