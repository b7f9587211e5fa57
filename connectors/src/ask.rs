//! Asks on the terminal before something is done that cannot be taken back.

use std::io::{self, IsTerminal};

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
