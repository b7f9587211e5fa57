//! The command `connectors`: reads files and options, calls the library, prints, and turns what happened
//! into an exit code. The only part that prints.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks through its output"
)]

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use comfy_table::{Table, presets::NOTHING};
use connectors::{
    Config, ConnectApi, ConnectError, Outcome, apply_telling,
    config_file::{self, FileError},
    plan::Plan,
    status::{Standing, Status, causes},
};

/// Manages Debezium connectors through the REST API of Kafka Connect.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Cli {
    /// REST address of a Kafka Connect worker; user and password may stand in it, as in
    /// `http://user:password@host:8083`
    #[arg(
        long,
        global = true,
        env = "CONNECT_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8083"
    )]
    connect_url: String,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for status: everything is RUNNING
  2  the command line or a connector file is wrong; nothing was done
  3  Kafka Connect cannot be reached, does not answer, refuses the credentials, or is something else
  4  Kafka Connect refuses the request: invalid configuration, unknown connector, another error
  5  a connector or a task is not RUNNING";

#[derive(Debug, Subcommand)]
enum Command {
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

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => Err("give a whole number of seconds, 1 or more".to_owned()),
    }
}

/// Why the command ends with another code than 0.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("not deleted: there is no terminal to ask on; repeat it with --yes if you are sure")]
    CannotAsk,
    #[error("not deleted")]
    Declined,
    /// Said already.
    #[error("")]
    NotRunning,
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::File(_) | Self::CannotAsk | Self::Declined => 2,
            Self::NotRunning => 5,
            Self::Connect(error) => match error {
                ConnectError::InvalidUrl { .. } => 2,
                ConnectError::Unreachable { .. }
                | ConnectError::NoAnswer { .. }
                | ConnectError::Unauthorized { .. }
                | ConnectError::NotConnect { .. } => 3,
                ConnectError::Refused { .. }
                | ConnectError::InvalidConfig { .. }
                | ConnectError::NotFound { .. } => 4,
                ConnectError::Failed { .. }
                | ConnectError::Halted { .. }
                | ConnectError::NotRunning { .. } => 5,
            },
        }
    }

    fn print(&self) {
        if matches!(self, Self::NotRunning) {
            return;
        }
        eprintln!("error: {self}");
        // What lies between is how the HTTP client is built.
        let innermost = std::iter::successors(self.source(), |&cause| cause.source()).last();
        if let Some(cause) = innermost {
            eprintln!("  because: {cause}");
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let api = ConnectApi::new(&cli.connect_url)?;
    match cli.command {
        Command::Apply { paths, timeout } => apply(&api, &paths, timeout).await,
        Command::Status { names, json, timeout } => status(&api, &names, json, timeout).await,
        Command::Delete { name, yes, timeout } => delete(&api, &name, yes, timeout).await,
    }
}

/// Goes on after a connector that could not be applied, and ends with the first failure.
async fn apply(api: &ConnectApi, paths: &[PathBuf], timeout: Duration) -> Result<(), Failure> {
    let mut first_failure = None;
    for file in config_file::read_all(paths)? {
        let name = &file.name;
        let started = Instant::now();
        let outcome = apply_telling(api, name, &file.config, timeout, |plan| announce(name, plan)).await;
        match outcome.map_err(Failure::from) {
            Ok(outcome) => {
                let done = match outcome {
                    Outcome::Created => "created",
                    Outcome::Updated => "updated",
                    Outcome::Unchanged => "unchanged",
                    Outcome::Restarted => "unchanged, started again",
                };
                println!(
                    "{name}: {done}, RUNNING ({:.1} s)",
                    started.elapsed().as_secs_f32()
                );
            }
            // The next one would not fare better.
            Err(failure) if failure.exit_code() == 3 => return Err(failure),
            Err(failure) => match &first_failure {
                None => first_failure = Some(failure),
                Some(_) => failure.print(),
            },
        }
    }
    first_failure.map_or(Ok(()), Err)
}

fn announce(name: &str, plan: &Plan) {
    match plan {
        Plan::Create => println!("{name}: creating"),
        Plan::Update(changes) => {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            println!("{name}: updating {}", changes.join(" "));
        }
        Plan::Unchanged => (),
    }
}

async fn status(api: &ConnectApi, names: &[String], json: bool, timeout: Duration) -> Result<(), Failure> {
    let mut statuses = within(api, timeout, api.statuses()).await?;
    if let Some(missing) = names
        .iter()
        .find(|name| statuses.iter().all(|status| status.name != **name))
    {
        let connector = missing.clone();
        return Err(ConnectError::NotFound { connector }.into());
    }
    statuses.retain(|status| names.is_empty() || names.contains(&status.name));
    if json {
        println!("{:#}", serde_json::json!(statuses));
    } else if statuses.is_empty() {
        println!("Kafka Connect has no connectors; `connectors apply` creates them");
    } else {
        println!("{}", table(&statuses));
    }
    let running = |status: &Status| Standing::of(status) == Standing::Running;
    if statuses.is_empty() || !statuses.iter().all(running) {
        return Err(Failure::NotRunning);
    }
    Ok(())
}

fn table(statuses: &[Status]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["connector", "part", "state", "worker", "reason"]);
    for status in statuses {
        let connector = ("connector".to_owned(), &status.connector);
        let tasks = status
            .tasks
            .iter()
            .map(|task| (format!("task {}", task.id), &task.instance));
        for (part, instance) in [connector].into_iter().chain(tasks) {
            table.add_row([
                status.name.clone(),
                part,
                instance.state.to_string(),
                instance.worker_id.clone(),
                instance.trace.as_deref().map(reason).unwrap_or_default(),
            ]);
        }
    }
    table
}

/// The first and the last message of a trace. Of a long one the middle goes: Debezium prints its whole
/// position before it says what is wrong with it.
fn reason(trace: &str) -> String {
    let cut = |line: &str| {
        let line: Vec<char> = line.chars().collect();
        match line.len() {
            0..=160 => line.into_iter().collect(),
            length => line[..80]
                .iter()
                .chain(&['…'])
                .chain(&line[length - 79..])
                .collect::<String>(),
        }
    };
    match causes(trace).as_slice() {
        [] => String::new(),
        [only] => cut(only),
        [first, .., last] => format!("{}\n{}", cut(first), cut(last)),
    }
}

async fn delete(api: &ConnectApi, name: &str, yes: bool, timeout: Duration) -> Result<(), Failure> {
    let not_found = || ConnectError::NotFound {
        connector: name.to_owned(),
    };
    let config = within(api, timeout, api.config(name))
        .await?
        .ok_or_else(not_found)?;
    if !yes {
        confirm(name)?;
    }
    if !within(api, timeout, api.delete(name)).await? {
        return Err(not_found().into());
    }
    println!("{name}: deleted");
    print!("{}", left_behind(&config));
    Ok(())
}

fn confirm(name: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::CannotAsk);
    }
    print!("Delete connector {name}? Changes are not captured until it is applied again. [y/N] ");
    let mut answer = String::new();
    let read = io::stdout()
        .flush()
        .and_then(|()| io::stdin().read_line(&mut answer));
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::Declined),
    }
}

/// A slot is never dropped silently: it is what makes sure that no change is lost meanwhile.
fn left_behind(config: &Config) -> String {
    let Some(slot) = config.get("slot.name") else {
        return String::new();
    };
    let publication = config
        .get("publication.name")
        .map_or("dbz_publication", String::as_str);
    format!(
        "\
The replication slot {slot} and the publication {publication} stay in PostgreSQL, and Kafka Connect keeps
the connector's offsets: applied again under the same name, it goes on where it stopped.
Until then PostgreSQL keeps all of its write-ahead log for the slot, and its disk can fill up.
If the connector shall not come back, drop them in its database:
  SELECT pg_drop_replication_slot('{slot}');
  DROP PUBLICATION {publication};
"
    )
}

async fn within<T>(
    api: &ConnectApi,
    timeout: Duration,
    request: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    tokio::time::timeout(timeout, request).await.unwrap_or_else(|_| {
        Err(ConnectError::NoAnswer {
            url: api.url().to_owned(),
            waited: timeout,
        })
    })
}
