//! Asks on the terminal before something is done that cannot be taken back.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;

/// Returns if the answer is yes.
pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::CannotAsk);
    }
    print!("{question} [y/N] ");
    let mut answer = String::new();
    let read = io::stdout()
        .flush()
        .and_then(|()| io::stdin().read_line(&mut answer));
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::Declined),
    }
}
