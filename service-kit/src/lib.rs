//! How any service of the marketplace lives: problem bodies, token check, listeners, lifecycle,
//! telemetry, and what their OpenAPI documents share.
//!
//! The crate knows neither trade posts nor chats nor a database. What two services would otherwise
//! write twice belongs here; what only one of them needs does not.

pub mod auth;
pub mod clock;
pub mod cursor;
pub mod duration;
pub mod extract;
pub mod health;
pub mod lifecycle;
pub mod metrics;
pub mod number;
pub mod openapi;
pub mod origin;
pub mod problem;
pub mod server;
pub mod telemetry;
