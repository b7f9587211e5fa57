//! chat-service against a real MongoDB: the API as members and operators use it, and the effect of
//! captured changes. Kafka and the registry are not needed here and are at addresses that refuse;
//! the way through them is in the end-to-end tests.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod chat;
mod dead_letters;
mod deletion;
mod events;
mod kept;
mod messages;
mod moves;
mod projection;
mod refusals;
mod rooms;
