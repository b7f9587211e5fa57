//! Stops the consumer where too much cannot be understood: a wrong registry or a bad deploy must not
//! drain the topic into dead letters.
//!
//! Invariant: a batch that brings the dead letters above a limit is refused whole, before any of it
//! is kept or passed.

use std::collections::VecDeque;

/// How many of the last records the share of dead letters is taken of.
pub const WINDOW: usize = 1000;

/// From where on dead letters are a flood.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most dead letters in a row.
    pub run: usize,
    /// Most dead letters among the last [`WINDOW`] records.
    pub among_last: usize,
}

/// What became of the last records.
#[derive(Clone, Debug)]
pub struct Breaker {
    limits: Limits,
    run: usize,
    last: VecDeque<Outcome>,
    /// Dead letters that an operator lets pass uncounted.
    allowance: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Understood,
    Dead,
}

/// More dead letters than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    #[error("{0} records in a row cannot be understood")]
    Run(usize),
    #[error("{0} of the last {WINDOW} records cannot be understood")]
    AmongLast(usize),
}

impl Breaker {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            run: 0,
            last: VecDeque::with_capacity(WINDOW),
            allowance: 0,
        }
    }

    /// Lets the next `dead_letters` pass.
    pub fn allow(&mut self, dead_letters: u64) {
        self.allowance = dead_letters;
    }

    /// What is remembered after these records, if they are no flood.
    pub fn after(&self, records: impl IntoIterator<Item = Outcome>) -> Result<Self, Flood> {
        let mut next = self.clone();
        for record in records {
            next.add(record)?;
        }
        Ok(next)
    }

    fn add(&mut self, record: Outcome) -> Result<(), Flood> {
        match record {
            Outcome::Understood => self.run = 0,
            Outcome::Dead if self.allowance > 0 => {
                self.allowance -= 1;
                return Ok(());
            }
            Outcome::Dead => self.run += 1,
        }
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(record);
        let dead = self
            .last
            .iter()
            .filter(|record| **record == Outcome::Dead)
            .count();
        if self.run > self.limits.run {
            Err(Flood::Run(self.run))
        } else if dead > self.limits.among_last {
            Err(Flood::AmongLast(dead))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Dead, Understood};
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        run: 3,
        among_last: 10,
    };

    #[test]
    fn a_run_is_a_flood_however_it_is_divided_into_batches() {
        let two = Breaker::new(LIMITS).after([Dead, Dead]).unwrap();
        assert_eq!(two.after([Dead, Dead]).unwrap_err(), Flood::Run(4));
        assert!(two.after([Dead, Understood, Dead, Dead, Dead]).is_ok());
    }

    #[test]
    fn a_share_is_a_flood_also_between_good_records() {
        let mut breaker = Breaker::new(LIMITS);
        for _ in 0..10 {
            breaker = breaker.after([Dead, Understood]).unwrap();
        }
        assert_eq!(breaker.after([Dead]).unwrap_err(), Flood::AmongLast(11));
        let later = breaker.after([Understood; WINDOW]).unwrap();
        assert!(later.after([Dead]).is_ok());
    }

    #[test]
    fn what_an_operator_lets_pass_is_not_counted() {
        let mut breaker = Breaker::new(LIMITS);
        breaker.allow(500);
        let after = breaker.after([Dead; 503]).unwrap();
        assert_eq!(after.after([Dead]).unwrap_err(), Flood::Run(4));
    }

    proptest! {
        #[test]
        fn fewer_dead_letters_than_the_limits_pass(good in prop::collection::vec(0usize..5, 0..10)) {
            let records = good.iter().flat_map(|good| [Dead].into_iter().chain(vec![Understood; *good + 1]));
            prop_assert!(Breaker::new(LIMITS).after(records).is_ok());
        }
    }
}
