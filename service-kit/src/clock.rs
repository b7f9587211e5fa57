//! The one place that reads the wall clock.
//!
//! Everything else takes the time as an argument or calls [`now`], so a search for one name finds
//! all code whose outcome depends on when it runs.

use chrono::{DateTime, Utc};

/// The current time, UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
