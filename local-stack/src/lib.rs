//! The real servers of the marketplace as plain processes, without containers: fetched or built once,
//! started on free ports of the loopback address, and gone when the process that started them ends.
//!
//! Tests use [`testing`]; people use the command `local-stack`. Only the client and the demo know what
//! trade posts and chats are.
//!
//! Without the feature `full` there is PostgreSQL only, and no MongoDB driver in the dependency tree.

#![cfg_attr(
    not(feature = "full"),
    expect(
        dead_code,
        reason = "PostgreSQL alone uses only a part of what all servers share"
    )
)]

mod account;
pub mod artifacts;
#[cfg(feature = "full")]
pub mod capture;
mod cargo;
#[cfg(feature = "full")]
pub mod clean;
#[cfg(feature = "full")]
pub mod client;
#[cfg(feature = "full")]
pub mod connect;
#[cfg(feature = "full")]
pub mod demo;
#[cfg(feature = "full")]
mod endpoints;
pub mod environment;
mod folder;
#[cfg(feature = "full")]
mod jvm;
#[cfg(feature = "full")]
pub mod kafka;
mod log;
#[cfg(feature = "full")]
pub mod mongo;
mod ports;
pub mod postgres;
mod prerequisites;
mod process;
pub mod progress;
#[cfg(feature = "full")]
pub mod registry;
pub mod server;
#[cfg(feature = "full")]
pub mod services;
#[cfg(feature = "full")]
mod stack;
#[cfg(feature = "full")]
pub mod system;
pub mod testing;
pub mod tokens;

#[cfg(feature = "full")]
pub use endpoints::Endpoints;
#[cfg(feature = "full")]
pub use stack::{DATABASE, Stack, StackOptions};

/// A short name for content: the first 16 hexadecimal digits of its SHA-256.
fn digest(content: &[u8]) -> String {
    use std::fmt::Write;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    hash.as_ref()
        .iter()
        .take(8)
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
