//! How much and how fast: the promises about size, measured on the real servers. `cargo load` runs them at full
//! size and prints what it saw; smaller ones are tests.
//!
//! Invariant: what is compared was measured in one run, by one clock, on one machine.

pub mod backlog;
pub mod bare;
pub mod fill;
pub mod huge_room;
mod memory;
pub mod reconcile;

use std::time::Duration;

/// Times that something took.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
        self.0.sort_unstable();
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that `percent` of all did not exceed.
    ///
    /// # Panics
    /// If there is none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0[rank.saturating_sub(1)]
    }
}

/// How many times `b` goes into `a`.
pub fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

/// `bytes` in MiB.
pub fn mebibytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let mut times = Times::default();
        for ms in (1..=100).rev() {
            times.add(Duration::from_millis(ms));
        }
        let found = [1, 50, 99, 100].map(|percent| times.percentile(percent).as_millis());
        assert_eq!(found, [1, 50, 99, 100]);
    }
}
