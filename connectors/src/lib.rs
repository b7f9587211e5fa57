//! Manages connectors through Kafka Connect's REST API: what a connector should be is a file, [`apply`]
//! makes it so.
//!
//! Decisions are pure ([`plan::Plan`], [`settle::Settling`], [`status::Standing`]); only [`ConnectApi`]
//! talks to a server, and nothing here prints.

mod answer;
mod apply;
pub mod config_file;
mod connect_api;
mod connect_read;
pub mod database;
pub mod doctor;
mod error;
pub mod kafka;
pub mod leave;
pub mod lsn;
pub mod offset;
pub mod plan;
pub mod registry;
pub mod report;
pub mod schemas;
pub mod servers;
pub mod settle;
pub mod shipped;
pub mod slot;
pub mod status;

pub use apply::{Outcome, apply, apply_telling};
pub use connect_api::{Config, ConnectApi};
pub use error::{ConnectError, FieldError};
