//! Decides when a connector that has failed is restarted. Pure: the caller observes, keeps the time and
//! draws lots.
//!
//! The pauses are those of Strimzi's operator: the first restart comes at once, the one after n restarts
//! n²+n minutes after the last, at most an hour after it, and an hour without a failure begins anew.
//!
//! Several supervisors may watch one connector, and none knows of the others. Each waits a random moment
//! more before it restarts, looks closely meanwhile, and counts a restart that it sees like one of its own:
//! so one of them restarts, and all go on with the same pauses. Connect keeps nothing that tells of a restart
//! once it has failed again; who did not see it restarts once more, at its own pauses.

use std::time::Duration;

use crate::status::Standing;

/// How the pauses are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A minute of the schedule. Tests take less.
    pub minute: Duration,
    /// Up to so much longer a supervisor waits, by lot.
    pub jitter: Duration,
}

/// So many minutes at most between two restarts, and without a failure until they count as none.
const HOUR: u32 = 60;

/// For so long after a restart was asked for, a failure that is seen can still be the old one.
pub const TAKES_EFFECT: Duration = Duration::from_secs(2);

impl Pace {
    /// The pause after so many restarts.
    pub fn pause(&self, restarts: u32) -> Duration {
        let minutes = restarts.saturating_mul(restarts.saturating_add(1)).min(HOUR);
        self.minute.saturating_mul(minutes)
    }

    fn stable(&self) -> Duration {
        self.minute.saturating_mul(HOUR)
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It has not failed, or somebody has halted it, or a restart is under way.
    Rest,
    /// A restart is due `at`. From `look_from` on somebody else may restart it at any moment.
    Wait {
        look_from: Duration,
        at: Duration,
    },
    Restart,
}

/// What is known of one connector. Times are since the supervisor began.
#[derive(Debug, Clone, Default)]
pub struct Supervision {
    restarts: u32,
    last_restart: Option<Duration>,
    /// Since when it has not failed.
    well_since: Option<Duration>,
    failure: Option<Failure>,
}

/// A failure that nobody has answered yet.
#[derive(Debug, Clone, Copy)]
struct Failure {
    look_from: Duration,
    due: Duration,
}

impl Supervision {
    /// Takes how the connector stands `now`. `lot` is from 0 to 1, and drawn anew every time.
    pub fn observe(&mut self, now: Duration, standing: &Standing, pace: &Pace, lot: f64) -> Step {
        if *standing == Standing::Failed {
            if self.is_taking_effect(now) {
                return Step::Rest;
            }
            self.well_since = None;
            let failure = *self.failure.get_or_insert_with(|| {
                let look_from = match self.last_restart {
                    Some(last) => now.max(last.saturating_add(pace.pause(self.restarts))),
                    None => now,
                };
                let due = look_from.saturating_add(pace.jitter.mul_f64(lot.clamp(0.0, 1.0)));
                Failure { look_from, due }
            });
            return if now >= failure.due {
                Step::Restart
            } else {
                Step::Wait {
                    look_from: failure.look_from,
                    at: failure.due,
                }
            };
        }
        if self.failure.take().is_some() {
            // Not by this supervisor, so somebody else has.
            self.restarts += 1;
            self.last_restart = Some(now);
        }
        let well_since = *self.well_since.get_or_insert(now);
        if *standing == Standing::Running && now.saturating_sub(well_since) >= pace.stable() {
            self.restarts = 0;
            self.last_restart = None;
        }
        Step::Rest
    }

    /// A restart was asked for.
    pub fn restarted(&mut self, now: Duration) {
        self.failure = None;
        self.restarts += 1;
        self.last_restart = Some(now);
        self.well_since = None;
    }

    /// A restart could not be asked for; it is tried again `pause` later.
    pub fn refused(&mut self, now: Duration, pause: Duration) {
        if let Some(failure) = &mut self.failure {
            failure.due = now.saturating_add(pause);
            failure.look_from = failure.due;
        }
    }

    /// Restarts since the last stable hour, also those by others.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Connect still shows a failure for a moment after it has taken a request to restart.
    fn is_taking_effect(&self, now: Duration) -> bool {
        let restarted = self.failure.is_none() && self.well_since.is_none();
        restarted
            && self
                .last_restart
                .is_some_and(|last| now.saturating_sub(last) < TAKES_EFFECT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const PACE: Pace = Pace {
        minute: MINUTE,
        jitter: Duration::ZERO,
    };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_are_those_of_strimzi() {
        let minutes: Vec<u64> = (0..10).map(|n| PACE.pause(n).as_secs() / 60).collect();
        assert_eq!(minutes, [0, 2, 6, 12, 20, 30, 42, 56, 60, 60]);
        assert_eq!(PACE.pause(u32::MAX), MINUTE * 60);
    }

    #[test]
    fn a_failure_is_answered_at_once_and_the_next_one_later() {
        let mut one = Supervision::default();
        let mut see = |at, standing: Standing| {
            let step = one.observe(s(at), &standing, &PACE, 0.5);
            if step == Step::Restart {
                one.restarted(s(at));
            }
            step
        };
        assert_eq!(see(0, Standing::Running), Step::Rest);
        assert_eq!(see(5, Standing::Failed), Step::Restart);
        assert_eq!(see(6, Standing::Failed), Step::Rest, "not yet carried out");
        assert_eq!(see(7, Standing::Changing), Step::Rest);
        assert_eq!(see(8, Standing::Running), Step::Rest);
        let at = s(125);
        assert_eq!(see(9, Standing::Failed), Step::Wait { look_from: at, at });
        assert_eq!(see(124, Standing::Failed), Step::Wait { look_from: at, at });
        assert_eq!(see(126, Standing::Failed), Step::Restart);
        // It never ran: Connect shows the same failure all the time.
        let at = s(126 + 360);
        assert_eq!(see(130, Standing::Failed), Step::Wait { look_from: at, at });
    }

    #[test]
    fn a_stable_hour_begins_anew() {
        let mut one = Supervision::default();
        one.observe(s(0), &Standing::Failed, &PACE, 0.0);
        one.restarted(s(0));
        one.observe(s(10), &Standing::Running, &PACE, 0.0);
        assert_eq!(one.restarts(), 1);
        one.observe(s(10 + 3599), &Standing::Running, &PACE, 0.0);
        assert_eq!(one.restarts(), 1);
        one.observe(s(10 + 3600), &Standing::Running, &PACE, 0.0);
        assert_eq!(one.restarts(), 0);
        assert_eq!(one.observe(s(4000), &Standing::Failed, &PACE, 0.0), Step::Restart);
    }

    #[test]
    fn a_restart_by_somebody_else_counts() {
        let pace = Pace { jitter: s(4), ..PACE };
        let mut one = Supervision::default();
        let step = one.observe(s(0), &Standing::Failed, &pace, 1.0);
        assert_eq!(
            step,
            Step::Wait {
                look_from: s(0),
                at: s(4)
            }
        );
        assert_eq!(one.observe(s(1), &Standing::Changing, &pace, 1.0), Step::Rest);
        assert_eq!(one.restarts(), 1);
        assert_eq!(one.observe(s(2), &Standing::Running, &pace, 1.0), Step::Rest);
        let step = one.observe(s(3), &Standing::Failed, &pace, 1.0);
        assert_eq!(
            step,
            Step::Wait {
                look_from: s(121),
                at: s(125)
            }
        );
    }

    #[test]
    fn what_somebody_has_halted_is_left_alone() {
        let mut one = Supervision::default();
        let halted = Standing::Halted(crate::status::State::Paused);
        assert_eq!(one.observe(s(0), &halted, &PACE, 0.0), Step::Rest);
        assert_eq!(one.restarts(), 0);
    }

    #[test]
    fn a_refused_restart_is_tried_again_later() {
        let mut one = Supervision::default();
        assert_eq!(one.observe(s(0), &Standing::Failed, &PACE, 0.0), Step::Restart);
        one.refused(s(0), s(5));
        let at = s(5);
        assert_eq!(
            one.observe(s(1), &Standing::Failed, &PACE, 0.0),
            Step::Wait { look_from: at, at }
        );
        assert_eq!(one.observe(s(5), &Standing::Failed, &PACE, 0.0), Step::Restart);
        assert_eq!(one.restarts(), 0);
    }

    fn standing() -> impl Strategy<Value = Standing> {
        prop_oneof![
            3 => Just(Standing::Failed),
            2 => Just(Standing::Running),
            1 => Just(Standing::Changing),
            1 => Just(Standing::Halted(crate::status::State::Paused)),
        ]
    }

    proptest! {
        /// Whatever is seen: only a failure is answered, and never before its pause is over.
        #[test]
        fn no_restart_comes_early(
            seen in prop::collection::vec((standing(), 0u64..2000, 0.0f64..1.0), 1..200),
            jitter in 0u64..30,
        ) {
            let pace = Pace { jitter: s(jitter), ..PACE };
            let mut one = Supervision::default();
            let (mut now, mut last, mut in_a_row) = (Duration::ZERO, None::<Duration>, 0);
            for (standing, later, lot) in seen {
                now += s(later);
                let before = one.restarts();
                let step = one.observe(now, &standing, &pace, lot);
                if one.restarts() == 0 {
                    in_a_row = 0;
                }
                prop_assert!(one.restarts() <= before + 1);
                match step {
                    Step::Restart => {
                        prop_assert_eq!(&standing, &Standing::Failed);
                        if let Some(last) = last.filter(|_| in_a_row > 0) {
                            prop_assert!(now.saturating_sub(last) >= pace.pause(in_a_row));
                        }
                        one.restarted(now);
                        in_a_row += 1;
                        last = Some(now);
                    }
                    Step::Wait { look_from, at } => {
                        prop_assert_eq!(&standing, &Standing::Failed);
                        prop_assert!(now < at && look_from <= at);
                        prop_assert!(at.saturating_sub(look_from) <= pace.jitter);
                        prop_assert!(at <= now + pace.pause(one.restarts()) + pace.jitter);
                    }
                    Step::Rest => (),
                }
            }
        }

        /// Two supervisors of a connector that fails again half a second after each restart, with lots that
        /// are a second apart: each failure is answered once, at the pace of one supervisor.
        #[test]
        fn two_supervisors_restart_as_often_as_one(
            lots in prop::collection::vec((0.0f64..0.4, 0.6f64..1.0, any::<bool>()), 64),
            phase in 0u64..50,
        ) {
            let pace = Pace { minute: MINUTE, jitter: s(5) };
            let mut two = [Supervision::default(), Supervision::default()];
            let mut restarts: Vec<Duration> = Vec::new();
            let mut step = Duration::ZERO;
            // A look every 50 ms; for an hour and a half.
            while step < s(90 * 60) {
                step += Duration::from_millis(50);
                for (number, one) in two.iter_mut().enumerate() {
                    let now = step + Duration::from_millis(phase * number as u64);
                    let since = restarts.last().map(|last| now.saturating_sub(*last));
                    let standing = match since {
                        // Connect takes the request up a moment later, restarts, runs, and fails.
                        Some(since) if since < Duration::from_millis(40) => Standing::Failed,
                        Some(since) if since < Duration::from_millis(140) => Standing::Changing,
                        Some(since) if since < Duration::from_millis(500) => Standing::Running,
                        _ => Standing::Failed,
                    };
                    let (low, high, swapped) = lots[one.restarts() as usize % lots.len()];
                    let lot = if (number == 0) == swapped { low } else { high };
                    if one.observe(now, &standing, &pace, lot) == Step::Restart {
                        one.restarted(now);
                        restarts.push(now);
                    }
                }
            }
            // 0, 2, 8, 20, 40 and 70 minutes, each up to 5 s later.
            prop_assert_eq!(restarts.len(), 6);
            for (n, pair) in (1u32..).zip(restarts.windows(2)) {
                let pause = pair[1].saturating_sub(pair[0]);
                prop_assert!(pause >= pace.pause(n) && pause <= pace.pause(n) + s(6), "{:?}", restarts);
            }
        }
    }
}
