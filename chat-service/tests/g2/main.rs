#![allow(clippy::unwrap_used, dead_code, unused)]
#[path = "../api/blocks.rs"]
mod blocks;
#[path = "../api/changes.rs"]
mod changes;
#[path = "../api/chat.rs"]
mod chat;
#[path = "../api/deletion.rs"]
mod deletion;
#[path = "../api/erasure.rs"]
mod erasure;
#[path = "../api/leaving.rs"]
mod leaving;
#[path = "../api/messages.rs"]
mod messages;
#[path = "../api/projection.rs"]
mod projection;
