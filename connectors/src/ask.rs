//! Asks on the terminal before something is done that cannot be taken back.

use std::{
    io::{self, IsTerminal},
    thread,
};

use tokio::sync::oneshot;

use crate::failure::Failure;

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Returns if the answer is yes, or was given before with `--yes`.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !can_ask() {
        return Err(Failure::CannotAsk);
    }
    // Standard output may be going elsewhere.
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    match (io::stdin().read_line(&mut answer), answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::Declined),
    }
}

/// The same for one who waits for something else, too: nobody waits for the thread that reads the answer.
pub(crate) async fn confirmed(question: String, yes: bool) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    thread::spawn(move || answer.send(confirm(&question, yes)));
    answered.await.unwrap_or(Err(Failure::Declined))
}
