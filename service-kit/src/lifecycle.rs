//! How a service stops: the signals that ask for it, and the tasks that have to have ended.
//!
//! Invariant: a task that ends before it was asked to ends the service, with an error that names the
//! task; nothing goes on half alive.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

type BoxError = Box<dyn StdError + Send + Sync>;

/// Exit status of a process that was told twice to stop: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled by the first SIGTERM or SIGINT. The second one ends the process at once
/// with status 130, whatever it is doing.
///
/// # Panics
/// If the operating system refuses a signal handler. Call it at start-up, inside a tokio runtime.
pub fn shutdown_on_signal() -> CancellationToken {
    let listen = |kind| signal(kind).expect("the operating system accepts a signal handler");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        let name = first(&mut terminate, &mut interrupt).await;
        info!("{name} received: shutting down; a second signal stops at once");
        shutdown.cancel();
        let name = first(&mut terminate, &mut interrupt).await;
        warn!("{name} received again: stopping at once");
        std::process::exit(INTERRUPTED);
    });
    token
}

async fn first(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Why a service has to end although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("task `{task}` failed")]
    Failed { task: &'static str, source: BoxError },
    #[error("task `{task}` panicked: {message}")]
    Panicked { task: &'static str, message: String },
    #[error("task `{task}` ended although the service was not shutting down")]
    EndedEarly { task: &'static str },
}

/// The tasks a service consists of. Dropping it aborts them.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// The future must end with `Ok` soon after the token given to [`Tasks::run_until`] is cancelled,
    /// and not before.
    pub fn spawn<F, E>(&mut self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let handle = self
            .running
            .spawn(async move { future.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Waits until every task has ended. The first that ends before `token` was cancelled, or that
    /// fails or panics at any time, cancels the token so that the others end in order, and is the
    /// error. Tasks that have not ended `bound` after that are aborted, such as one that waits for a server
    /// that does not answer: whoever asked a service to end kills it if it takes too long.
    pub async fn run_until(mut self, token: CancellationToken, bound: Duration) -> Result<(), TaskError> {
        let mut first_error = None;
        let mut too_late = pin!(async {
            token.cancelled().await;
            sleep(bound).await;
        });
        loop {
            let ended = tokio::select! {
                ended = self.running.join_next_with_id() => ended,
                () = &mut too_late => {
                    let mut left: Vec<&str> = self.names.into_values().collect();
                    left.sort_unstable();
                    warn!("not ended within {bound:?} and aborted: {}", left.join(", "));
                    break;
                }
            };
            let Some(ended) = ended else { break };
            let error = match ended {
                Ok((id, Ok(()))) if token.is_cancelled() => {
                    self.name(id);
                    continue;
                }
                Ok((id, Ok(()))) => TaskError::EndedEarly { task: self.name(id) },
                Ok((id, Err(source))) => TaskError::Failed {
                    task: self.name(id),
                    source,
                },
                Err(e) => TaskError::Panicked {
                    task: self.name(e.id()),
                    message: panic_message(e),
                },
            };
            token.cancel();
            if first_error.is_some() {
                warn!(error = %error, "another task failed while shutting down");
            } else {
                first_error = Some(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// The name of a task that has ended.
    fn name(&mut self, id: Id) -> &'static str {
        self.names.remove(&id).unwrap_or("unnamed")
    }
}

fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "no message".to_owned()),
        Err(e) => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    const BOUND: Duration = Duration::from_secs(5);

    /// A task as it should be: ends when asked to.
    async fn obedient(token: CancellationToken) -> io::Result<()> {
        token.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn waits_for_every_task_after_the_token_is_cancelled() {
        let token = CancellationToken::new();
        let mut tasks = Tasks::new();
        tasks.spawn("a", obedient(token.clone()));
        tasks.spawn("b", obedient(token.clone()));
        token.cancel();
        assert!(tasks.run_until(token, BOUND).await.is_ok());
    }

    #[tokio::test]
    async fn an_early_end_a_failure_and_a_panic_each_stop_the_others_and_are_named() {
        let failing = || async { Err::<(), _>(io::Error::other("disk full")) };
        let panicking = || async {
            if true {
                panic!("out of {}", "cheese")
            } else {
                io::Result::Ok(())
            }
        };
        let run = async |spawn: &dyn Fn(&mut Tasks)| {
            let token = CancellationToken::new();
            let mut tasks = Tasks::new();
            tasks.spawn("obedient", obedient(token.clone()));
            spawn(&mut tasks);
            let error = tasks.run_until(token.clone(), BOUND).await.unwrap_err();
            assert!(token.is_cancelled());
            error
        };

        let error = run(&|tasks| tasks.spawn("early", async { io::Result::Ok(()) })).await;
        assert_eq!(
            error.to_string(),
            "task `early` ended although the service was not shutting down"
        );
        let error = run(&|tasks| tasks.spawn("failing", failing())).await;
        assert_eq!(error.to_string(), "task `failing` failed");
        assert_eq!(error.source().unwrap().to_string(), "disk full");
        let error = run(&|tasks| tasks.spawn("panicking", panicking())).await;
        assert_eq!(error.to_string(), "task `panicking` panicked: out of cheese");
    }

    #[tokio::test]
    async fn a_failure_while_shutting_down_is_an_error_too() {
        let token = CancellationToken::new();
        let mut tasks = Tasks::new();
        let stopped = token.clone();
        tasks.spawn("commit", async move {
            stopped.cancelled().await;
            Err::<(), _>(io::Error::other("offsets not committed"))
        });
        token.cancel();
        assert!(matches!(
            tasks.run_until(token, BOUND).await,
            Err(TaskError::Failed { task: "commit", .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_aborted_in_time() {
        let token = CancellationToken::new();
        let mut tasks = Tasks::new();
        let aborted = Arc::new(());
        let held = Arc::clone(&aborted);
        tasks.spawn("waits for a server", async move {
            let ended = std::future::pending::<io::Result<()>>().await;
            drop(held);
            ended
        });
        tasks.spawn("obedient", obedient(token.clone()));
        token.cancel();
        let begun = tokio::time::Instant::now();
        assert!(tasks.run_until(token, BOUND).await.is_ok());
        assert_eq!(begun.elapsed(), BOUND);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&aborted), 1);
    }
}
