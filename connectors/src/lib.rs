//! Manages connectors through Kafka Connect's REST API: what a connector should be is a file, [`apply`]
//! makes it so.
//!
//! Deletes that the capture has missed are found and repaired by [`reconcile`].
//!
//! Decisions are pure ([`plan::Plan`], [`settle::Settling`], [`status::Standing`]); only [`ConnectApi`] and what
//! [`reconcile`] has for PostgreSQL and chat-service talk to servers, and nothing here prints.

mod answer;
mod apply;
pub mod config_file;
mod connect_api;
mod error;
pub mod plan;
pub mod reconcile;
pub mod settle;
pub mod status;

pub use apply::{Outcome, apply, apply_telling};
pub use connect_api::{Committed, Config, ConnectApi};
pub use error::{ConnectError, FieldError};
