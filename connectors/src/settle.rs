//! Decides when a connector's state can be believed. Pure: the caller observes and keeps the time.
//!
//! Connect's status lags behind what was asked for: after a change it still shows the old tasks, RUNNING
//! or FAILED, and a task that is RUNNING can fail a moment later at its first read. So a state counts
//! only once it has held for a while, whichever state it is.

use std::time::Duration;

use crate::status::Standing;

/// Longer than Connect needs to replace a task (0.1–0.3 s), and than Debezium needs to find that it may
/// not read a table or that its publication is missing (below 1 s).
pub const SETTLED_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Settling {
    held: Option<(Standing, Duration)>,
}

impl Settling {
    /// Takes what was seen `at` (since the start of the wait) and answers the state if it has held long
    /// enough to be believed. `Changing` never settles.
    pub fn observe(&mut self, at: Duration, standing: Standing) -> Option<Standing> {
        match &self.held {
            Some((held, since)) if *held == standing => (standing != Standing::Changing
                && at.saturating_sub(*since) >= SETTLED_AFTER)
                .then_some(standing),
            _ => {
                self.held = Some((standing, at));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(seen: &[(u64, Standing)]) -> Option<(u64, Standing)> {
        let mut settling = Settling::default();
        seen.iter().find_map(|(at, standing)| {
            settling
                .observe(Duration::from_millis(*at), standing.clone())
                .map(|settled| (*at, settled))
        })
    }

    #[test]
    fn a_state_must_hold() {
        use Standing::{Changing, Failed, Running};
        assert_eq!(settle(&[(0, Running), (1999, Running)]), None);
        assert_eq!(settle(&[(0, Running), (2000, Running)]), Some((2000, Running)));
        // The old task is still shown, then replaced by one that fails.
        assert_eq!(
            settle(&[
                (0, Running),
                (1000, Changing),
                (1500, Running),
                (2000, Failed),
                (4000, Failed)
            ]),
            Some((4000, Failed))
        );
        // The failure of the old task is no failure of the new one.
        assert_eq!(
            settle(&[(0, Failed), (500, Running), (2400, Running), (2500, Running)]),
            Some((2500, Running))
        );
        assert_eq!(settle(&[(0, Changing), (60_000, Changing)]), None);
    }
}
