//! Waiting for what the system does in its own time.
//!
//! Invariant: a wait ends with the thing awaited or, after its bound, with a failure that names it and
//! shows what was there instead. Nothing waits for time to pass.

use std::{
    fmt::{Debug, Display},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// Between two looks: short beside what is waited for, long beside what a look costs.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `probe` answers `Ok`. Its `Err` is what it found instead.
///
/// # Panics
/// If it did not within `bound`.
pub async fn eventually<T, S: Debug>(
    what: impl Display,
    bound: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, S>,
) -> T {
    let deadline = Instant::now() + bound;
    loop {
        match probe().await {
            Ok(found) => return found,
            Err(seen) => assert!(
                Instant::now() < deadline,
                "not within {bound:?}: {what}; last seen: {seen:?}"
            ),
        }
        sleep(PAUSE).await;
    }
}

/// Looks until `probe` answers `wanted`.
///
/// # Panics
/// If it did not within `bound`.
pub async fn eventually_is<T: Debug + PartialEq>(
    what: impl Display,
    bound: Duration,
    wanted: T,
    mut probe: impl AsyncFnMut() -> T,
) {
    eventually(format!("{what}: {wanted:?}"), bound, async || {
        let seen = probe().await;
        if seen == wanted { Ok(()) } else { Err(seen) }
    })
    .await;
}
