//! One line on the terminal that says what is waited for and how it stands. Where standard error is no
//! terminal there is nothing.

use std::time::Duration;

use connectors::status::Status;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Gone from the terminal when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(what: &str) -> Self {
        // Hidden by itself where standard error is no terminal.
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg} ({elapsed})") {
            line.set_style(style);
        }
        line.set_prefix(what.to_owned());
        line.enable_steady_tick(Duration::from_millis(120));
        Self(line)
    }

    pub(crate) fn show(&self, status: &Status) {
        self.0.set_message(format!("· {status}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
