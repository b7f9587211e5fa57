//! The command line: what can be asked for, and the exit codes that scripts may rely on.

use std::{fs, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use connectors::{Access, ConnectApi};
use secrecy::SecretString;

use crate::{
    command::{apply, delete, doctor, lifecycle, offsets, reconcile, schemas, status, watch},
    failure::Failure,
};

/// Manages Debezium connectors through the REST API of Kafka Connect.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) worker: Worker,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for status: everything is RUNNING; for doctor: nothing is wrong; for apply --dry-run: nothing would be changed
  1  watch has ended because of an error
  2  the command line or a connector file is wrong, or the answer was no; nothing was done
  3  Kafka Connect, PostgreSQL, the registry or chat-service cannot be reached, does not answer, refuses the credentials, or is something else
  4  one of them refuses the request: invalid configuration, unknown connector or subject, another error
  5  a connector or a task is not RUNNING, or not in the state that was asked for; doctor found something wrong; a schema cannot be read
  6  apply --dry-run has found changes; nothing was done
  7  reconcile came to its end without closing what it found, and says why

Colour and moving lines are for terminals only, and NO_COLOR turns colour off.";

/// Where Kafka Connect is, and how it is reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kafka Connect")]
pub(crate) struct Worker {
    /// REST address of a Kafka Connect worker; user and password may stand in it, as in
    /// `http://user:password@host:8083`
    #[arg(
        long,
        global = true,
        env = "CONNECT_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8083",
        value_name = "URL"
    )]
    pub(crate) connect_url: String,
    /// User of HTTP basic authentication
    #[arg(long, global = true, env = "CONNECT_USER", value_name = "USER")]
    connect_user: Option<String>,
    /// Its password. Other users of the machine can see what stands on a command line: set the variable
    #[arg(
        long,
        global = true,
        env = "CONNECT_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    connect_password: Option<SecretString>,
    /// Certificates in PEM of the only authorities to trust for https; by default those of the system
    #[arg(long, global = true, env = "CONNECT_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// This client's certificate in PEM, for workers that ask for one; its private key may follow in the
    /// same file
    #[arg(long, global = true, env = "CONNECT_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Private key in PEM of the client's certificate
    #[arg(long, global = true, env = "CONNECT_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// Seconds that one answer may take; Connect itself gives up after 90
    #[arg(
        long,
        global = true,
        env = "CONNECT_REQUEST_TIMEOUT",
        default_value = "100",
        value_name = "SECONDS",
        value_parser = seconds
    )]
    request_timeout: Duration,
}

impl Worker {
    /// Reads the files that are named.
    pub(crate) fn api(&self) -> Result<ConnectApi, Failure> {
        let credentials = match (&self.connect_user, &self.connect_password) {
            (None, None) => None,
            (Some(user), Some(password)) => Some((user.clone(), password.clone())),
            _ => {
                return Err(Failure::Usage(
                    "--connect-user and --connect-password (or CONNECT_USER and CONNECT_PASSWORD) belong \
                     together: give both or none"
                        .to_owned(),
                ));
            }
        };
        let access = Access {
            credentials,
            authorities: self
                .ca_file
                .as_ref()
                .map(|path| read("--ca-file", path))
                .transpose()?,
            identity: self.identity()?,
            request_timeout: self.request_timeout,
        };
        Ok(ConnectApi::with(&self.connect_url, &access)?)
    }

    fn identity(&self) -> Result<Option<SecretString>, Failure> {
        let Some(certificate) = &self.client_cert else {
            return match self.client_key {
                None => Ok(None),
                Some(_) => Err(Failure::Usage(
                    "--client-key needs --client-cert, the certificate that it belongs to".to_owned(),
                )),
            };
        };
        let mut pem = read("--client-cert", certificate)?;
        if let Some(key) = &self.client_key {
            pem.push(b'\n');
            pem.extend(read("--client-key", key)?);
        }
        Ok(Some(String::from_utf8_lossy(&pem).into_owned().into()))
    }
}

fn read(option: &str, path: &PathBuf) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::Unreadable(format!("{option} {}", path.display()), error))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or update connectors from their files and wait until they are RUNNING
    ///
    /// NAME.json is the configuration of the connector NAME, a flat JSON object of strings. All of them are
    /// validated by Kafka Connect before the first is changed. What would change is shown, secrets masked;
    /// on a terminal you are asked. A connector that is right already is left alone; if it has failed, it
    /// is restarted.
    ///
    /// RUNNING does not prove that changes arrive: Debezium retries without end what its database refuses
    /// (a missing grant, a slot that somebody else holds), and only the worker's log tells.
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
    /// Restart connectors with their tasks and wait until they are RUNNING
    Restart(lifecycle::RestartOptions),
    /// Pause connectors: nothing is captured, tasks and connections stay
    Pause(lifecycle::Options),
    /// Stop connectors: nothing is captured, tasks end; PostgreSQL keeps its log for their slots
    Stop(lifecycle::Options),
    /// Let connectors go on that were paused or stopped, and wait until they are RUNNING
    Resume(lifecycle::Options),
    /// Show or forget how far a connector has got
    #[command(subcommand)]
    Offsets(offsets::Offsets),
    /// Delete a connector; its replication slot and publication stay in PostgreSQL unless they are named
    Delete(delete::Options),
    /// Find and repair deletes that the capture has missed, such as while its slot was lost
    ///
    /// Debezium reads the whole table, beside the changes that go on. Posts that chat-service takes for live and
    /// that are not in the table are listed and, once that is confirmed, closed as if their deletes had come.
    /// Interrupted before, it closes nothing; confirmed, chat-service finishes by itself.
    ///
    /// The load on PostgreSQL is one query per chunk, one after the other; the chunk is the connector's
    /// incremental.snapshot.chunk.size.
    Reconcile(reconcile::Options),
    /// Watch connectors and restart those that fail, until SIGTERM
    ///
    /// A connector that fails is restarted at once, and after n restarts n²+n minutes after the last, at
    /// most an hour; an hour without a failure begins anew. Several may run at once: they do not restart
    /// one failure twice. A connector that is paused or stopped is left alone.
    Watch(watch::Options),
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => Err("give a whole number of seconds, 1 or more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_exit_codes_are_those_of_the_operations_guide() {
        let guide = include_str!("../../docs/operations.md");
        for code in EXIT_CODES.lines().filter(|line| line.starts_with("  ")) {
            let (code, meaning) = code.trim().split_once("  ").unwrap();
            let row = format!(
                "| {code} | {} |",
                meaning.replace("apply --dry-run", "`apply --dry-run`")
            );
            assert!(guide.contains(&row), "{row} is not in docs/operations.md");
        }
    }

    #[test]
    fn the_password_is_not_in_the_debug_output() {
        let cli = Cli::parse_from([
            "connectors",
            "--connect-user=u",
            "--connect-password=hunter2",
            "status",
        ]);
        assert!(!format!("{cli:?}").contains("hunter2"));
    }
}
