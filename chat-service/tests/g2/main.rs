#![allow(clippy::unwrap_used, dead_code, unused)]
#[path = "../api/chat.rs"] mod chat;
#[path = "../api/blocks.rs"] mod blocks;
#[path = "../api/changes.rs"] mod changes;
#[path = "../api/erasure.rs"] mod erasure;
#[path = "../api/leaving.rs"] mod leaving;
#[path = "../api/deletion.rs"] mod deletion;
#[path = "../api/projection.rs"] mod projection;
#[path = "../api/messages.rs"] mod messages;
