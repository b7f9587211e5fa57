//! Manages connectors through Kafka Connect's REST API: what a connector should be is a file, [`apply`]
//! makes it so, [`lifecycle`] orders it about, [`watch`] brings it back when it fails, and [`reconcile`]
//! finds and repairs the deletes that it has missed.
//!
//! Decisions are pure ([`plan::Plan`], [`settle::Settling`], [`status::Standing`],
//! [`watch::supervision`]); only [`ConnectApi`] and what [`reconcile`] has for PostgreSQL and chat-service talk
//! to servers, and nothing here prints.

mod access;
mod answer;
mod apply;
pub mod config_file;
mod connect_api;
pub mod database;
pub mod doctor;
mod error;
pub mod kafka;
pub mod leave;
pub mod lifecycle;
pub mod lsn;
pub mod offsets;
mod patience;
mod placeholder;
pub mod plan;
mod reach;
pub mod reconcile;
pub mod registry;
pub mod report;
pub mod schemas;
pub mod secret;
pub mod servers;
pub mod settle;
pub mod shipped;
pub mod slot;
pub mod slots;
pub mod status;
mod validate;
pub mod watch;

pub use access::Access;
pub use apply::{Outcome, Prepared, apply, prepare};
pub use connect_api::{Config, ConnectApi, Plugin, Worker};
pub use error::{ConnectError, FieldError};
pub use patience::Patience;
