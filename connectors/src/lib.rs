//! Manages connectors through Kafka Connect's REST API: what a connector should be is a file, [`apply`]
//! makes it so.
//!
//! Decisions are pure ([`plan::Plan`], [`settle::Settling`], [`status::Standing`]); only [`ConnectApi`]
//! talks to a server, and nothing here prints.

mod answer;
mod apply;
pub mod config_file;
mod connect_api;
mod error;
pub mod plan;
pub mod settle;
pub mod status;

pub use apply::{Outcome, apply, apply_telling};
pub use connect_api::{Config, ConnectApi};
pub use error::{ConnectError, FieldError};
