//! Where log lines go and what they look like.
//!
//! Lines go to standard error, as text for people or as one JSON object each for machines. What is
//! written is the caller's duty: identifiers and durations, never bodies of requests or messages and
//! never tokens.

use std::io::IsTerminal;
use std::panic;

use clap::{Args, ValueEnum};
use tracing::error;
use tracing_subscriber::EnvFilter;

#[derive(Args, Clone, Debug)]
pub struct LogConfig {
    /// What to log: a level (error, warn, info, debug, trace) or directives like
    /// `info,trade_service=debug`
    #[arg(long, env = "LOG", default_value = "info", value_parser = valid_filter)]
    pub log: String,
    /// Log lines for people or for machines
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

fn valid_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|e| e.to_string())
}

/// Starts logging. Panics are logged like any other error from here on.
///
/// # Panics
/// If logging was started before: call it once, from `main`.
pub fn init(config: &LogConfig) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        error!(panic.location = location, "panic: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        log: LogConfig,
    }

    #[test]
    fn a_wrong_filter_is_refused_by_the_command_line() {
        assert!(Cli::try_parse_from(["x", "--log", "info,sqlx=warn", "--log-format", "json"]).is_ok());
        let error = Cli::try_parse_from(["x", "--log", "trade_service=loud"]).unwrap_err();
        assert!(error.to_string().contains("--log"), "{error}");
    }
}
