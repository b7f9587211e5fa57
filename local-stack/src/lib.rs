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
mod cargo_env;
#[cfg(feature = "full")]
pub mod client;
pub mod environment;
mod folder;
#[cfg(feature = "full")]
pub mod mongo;
mod ports;
pub mod postgres;
mod prerequisites;
mod process;
pub mod progress;
pub mod server;
pub mod testing;
pub mod tokens;

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
