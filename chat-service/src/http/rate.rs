//! How often one member may do what costs others: send, open rooms, open streams.
//!
//! Each instance counts for itself. Invariant: a member is remembered as long as the past has an effect
//! and not much longer, so memory depends on how many are busy at a time.

use std::{
    num::NonZeroU32,
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};

use super::{App, error::ApiError};
use crate::config::RateConfig;

/// After so many checks members whose past has no effect any more are forgotten.
const SWEEP: u32 = 4096;

/// So many a second, minute or hour, and so many at once: `10/s:40`. `0` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// As it was written.
    text: String,
    quota: Option<Quota>,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let quota = if text == "0" {
            None
        } else {
            let error = || {
                format!(
                    "{text:?} is not of the form 10/s:40 (ten a second, forty at once; s, m or h), nor 0 for no limit"
                )
            };
            Some(quota(text).ok_or_else(error)?)
        };
        Ok(Self {
            text: text.to_owned(),
            quota,
        })
    }
}

fn quota(text: &str) -> Option<Quota> {
    let (rate, burst) = text.split_once(':')?;
    let (times, unit) = rate.split_once('/')?;
    let unit = match unit {
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return None,
    };
    let times: NonZeroU32 = times.parse().ok()?;
    Some(Quota::with_period(unit / times.get())?.allow_burst(burst.parse().ok()?))
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    SendMessage,
    OpenRoom,
    OpenStream,
}

impl Action {
    /// As metrics and answers call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SendMessage => "send_message",
            Self::OpenRoom => "open_room",
            Self::OpenStream => "open_stream",
        }
    }
}

/// The member did it too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooOften {
    pub action: Action,
    /// The limit as it is configured.
    pub rate: String,
    /// When it is possible again.
    pub wait: Duration,
}

/// What members did lately.
#[derive(Debug)]
pub struct Rates {
    send_message: Limit,
    open_room: Limit,
    open_stream: Limit,
}

#[derive(Debug)]
struct Limit {
    rate: String,
    /// `None` is no limit.
    limiter: Option<RateLimiter<i64, HashMapStateStore<i64>, DefaultClock>>,
    checks: AtomicU32,
}

impl Limit {
    fn new(rate: &Rate) -> Self {
        Self {
            rate: rate.text.clone(),
            limiter: rate.quota.map(RateLimiter::hashmap),
            checks: AtomicU32::new(0),
        }
    }
}

impl Rates {
    pub fn new(config: &RateConfig) -> Self {
        Self {
            send_message: Limit::new(&config.send_rate),
            open_room: Limit::new(&config.room_rate),
            open_stream: Limit::new(&config.stream_rate),
        }
    }

    fn check(&self, action: Action, member: i64) -> Result<(), TooOften> {
        let limit = match action {
            Action::SendMessage => &self.send_message,
            Action::OpenRoom => &self.open_room,
            Action::OpenStream => &self.open_stream,
        };
        let Some(limiter) = &limit.limiter else {
            return Ok(());
        };
        if limit.checks.fetch_add(1, Ordering::Relaxed) % SWEEP == 0 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter.check_key(&member).map_err(|until| TooOften {
            action,
            rate: limit.rate.clone(),
            wait: until.wait_time_from(limiter.clock().now()),
        })
    }
}

impl App {
    /// Counts what `member` is about to do, or refuses it.
    pub fn permit(&self, action: Action, member: i64) -> Result<(), ApiError> {
        self.rates.check(action, member).map_err(|too_often| {
            self.metrics.rate_limited(action.name());
            ApiError::TooOften(too_often)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(text: &str) -> Rates {
        let rate: Rate = text.parse().unwrap();
        Rates::new(&RateConfig {
            send_rate: rate.clone(),
            room_rate: rate.clone(),
            stream_rate: rate,
        })
    }

    #[test]
    fn a_burst_passes_and_more_waits_for_the_rate() {
        let rates = rates("2/h:3");
        let (one, other) = (1, 2);
        for _ in 0..3 {
            rates.check(Action::SendMessage, one).unwrap();
        }
        let refused = rates.check(Action::SendMessage, one).unwrap_err();
        assert_eq!(
            (refused.action, refused.rate.as_str()),
            (Action::SendMessage, "2/h:3")
        );
        let half_an_hour = Duration::from_mins(30);
        assert!(
            refused.wait <= half_an_hour
                && refused.wait > half_an_hour.saturating_sub(Duration::from_mins(1))
        );
        // Others and other things are not concerned.
        rates.check(Action::SendMessage, other).unwrap();
        rates.check(Action::OpenRoom, one).unwrap();
    }

    #[test]
    fn members_whose_past_has_no_effect_are_forgotten() {
        let rates = rates("1000000/s:1");
        let known = || rates.send_message.limiter.as_ref().map_or(0, RateLimiter::len);
        for member in 1..100_000 {
            rates.check(Action::SendMessage, member).unwrap();
            // One check takes longer than the microsecond that it has an effect.
            assert!(known() <= 2 * SWEEP as usize, "{} after {member}", known());
        }
        assert!(known() > 0);
    }

    #[test]
    fn a_member_whose_past_has_an_effect_is_not_forgotten() {
        let rates = rates("1/h:1");
        rates.check(Action::SendMessage, 1).unwrap();
        for member in 2..=i64::from(2 * SWEEP) {
            rates.check(Action::SendMessage, member).unwrap();
        }
        assert!(rates.check(Action::SendMessage, 1).is_err());
    }

    #[test]
    fn no_limit_is_no_limit() {
        let rates = rates("0");
        for _ in 0..10_000 {
            rates.check(Action::OpenStream, 1).unwrap();
        }
    }

    #[test]
    fn a_rate_has_a_number_a_unit_and_a_burst() {
        for good in ["10/s:40", "1/m:1", "6/h:100", "0"] {
            assert!(good.parse::<Rate>().is_ok(), "{good}");
        }
        for wrong in [
            "",
            "10",
            "10/s",
            "10:40",
            "0/s:40",
            "10/s:0",
            "10/d:40",
            "-1/s:1",
            "1.5/s:3",
            "10/s:40:1",
            "99999999999/s:1",
        ] {
            let error = wrong.parse::<Rate>().unwrap_err();
            assert!(error.contains("10/s:40"), "{wrong}");
        }
    }
}
