//! The command line: what can be asked for, and the exit codes that scripts may rely on.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use crate::command::reconcile;

/// Manages Debezium connectors through the REST API of Kafka Connect.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// REST address of a Kafka Connect worker; user and password may stand in it, as in
    /// `http://user:password@host:8083`
    #[arg(
        long,
        global = true,
        env = "CONNECT_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8083"
    )]
    pub(crate) connect_url: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for status: everything is RUNNING
  2  the command line or a connector file is wrong; nothing was done
  3  Kafka Connect cannot be reached, does not answer, refuses the credentials, or is something else
  4  Kafka Connect refuses the request: invalid configuration, unknown connector, another error
  5  a connector or a task is not RUNNING
  6  a reconciliation came to its end without closing what it found; it says why";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find and repair deletes that the capture has missed, such as while its slot was lost
    ///
    /// Debezium reads the whole table, beside the changes that go on. Posts that chat-service takes for live and
    /// that are not in the table are listed and, once that is confirmed, closed as if their deletes had come.
    /// Interrupted before, it closes nothing; confirmed, chat-service finishes by itself.
    ///
    /// The load on PostgreSQL is one query per chunk, one after the other; the chunk is the connector's
    /// incremental.snapshot.chunk.size.
    Reconcile(reconcile::Options),
    /// Create or update connectors from their files and wait until they are RUNNING
    ///
    /// NAME.json is the configuration of the connector NAME, a flat JSON object of strings. A connector
    /// that is right already is left alone; if it has failed, it is restarted.
    ///
    /// RUNNING does not prove that changes arrive: Debezium retries without end what its database refuses
    /// (a missing grant, a slot that another connector holds), and only the worker's log tells.
    Apply {
        /// Connector files, or folders of them
        #[arg(default_value = "connectors")]
        paths: Vec<PathBuf>,
        /// Seconds that one connector may take to be RUNNING
        #[arg(long, default_value = "60", value_parser = seconds)]
        timeout: Duration,
    },
    /// Show the state of connectors and their tasks
    Status {
        /// Connectors; all if none is named
        names: Vec<String>,
        /// Print JSON, with whole stack traces
        #[arg(long)]
        json: bool,
        /// Seconds to wait for the answer
        #[arg(long, default_value = "30", value_parser = seconds)]
        timeout: Duration,
    },
    /// Delete a connector; its replication slot and publication stay in PostgreSQL
    Delete {
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Seconds to wait for each answer
        #[arg(long, default_value = "30", value_parser = seconds)]
        timeout: Duration,
    },
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => Err("give a whole number of seconds, 1 or more".to_owned()),
    }
}
