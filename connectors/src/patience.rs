//! The time that a command has, and how it is spent: while the workers rebalance, the same request is sent
//! again until it is answered or the time is over.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::ConnectError;

const REBALANCE_PAUSE: Duration = Duration::from_millis(250);

/// Begins when it is made.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    start: Instant,
    wait: Duration,
}

impl Patience {
    pub fn new(wait: Duration) -> Self {
        Self {
            start: Instant::now(),
            wait,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn is_over(&self) -> bool {
        self.elapsed() >= self.wait
    }

    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// Repeats a request to `url` while the workers rebalance, within the time that is left.
    pub async fn ask<T, F>(&self, url: &str, request: impl Fn() -> F) -> Result<T, ConnectError>
    where
        F: Future<Output = Result<T, ConnectError>>,
    {
        let deadline = self.start + self.wait;
        loop {
            let answer = timeout_at(deadline, request())
                .await
                .map_err(|_| ConnectError::NoAnswer {
                    url: url.to_owned(),
                    waited: self.wait,
                })?;
            match answer {
                Err(error) if error.is_rebalance() && Instant::now() + REBALANCE_PAUSE < deadline => {
                    sleep(REBALANCE_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}
