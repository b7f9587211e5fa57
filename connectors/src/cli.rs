//! The command line: what can be asked for, and the exit codes that scripts may rely on.

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::command::{apply, delete, doctor, schemas, status};

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
  0  done; for status: everything is RUNNING; for doctor: nothing is wrong
  2  the command line or a connector file is wrong; nothing was done
  3  Kafka Connect (or the registry, or PostgreSQL) cannot be reached, does not answer, refuses the
     credentials, or is something else
  4  it refuses the request: invalid configuration, unknown connector or subject, another error
  5  a connector or a task is not RUNNING; doctor found something wrong; a schema cannot be read";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or update connectors from their files and wait until they are RUNNING
    ///
    /// NAME.json is the configuration of the connector NAME, a flat JSON object of strings. A connector
    /// that is right already is left alone; if it has failed, it is restarted.
    ///
    /// RUNNING does not prove that changes arrive: Debezium retries without end what its database refuses
    /// (a missing grant, a slot that another connector holds), and only the worker's log tells.
    Apply(apply::Options),
    /// Show the state of connectors and their tasks, and of what they read from and write to
    Status(status::Options),
    /// Say what is wrong with the capture, and what to do
    ///
    /// Changes nothing. What is not given an address is not looked at. Exits with 5 if something is wrong;
    /// warnings are none.
    Doctor(doctor::Options),
    /// Look at, and set up, the schema registry
    Schemas(schemas::Options),
    /// Delete a connector; its replication slot and publication stay in PostgreSQL unless they are named
    Delete(delete::Options),
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => Err("give a whole number of seconds, 1 or more".to_owned()),
    }
}
