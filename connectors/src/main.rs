//! The command `connectors`: reads files and options, calls the library, prints, and turns what happened
//! into an exit code. The only part that prints.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks through its output"
)]

mod cli;
mod command;
mod present;

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use connectors::{
    ConnectApi, ConnectError, Outcome, apply_telling,
    config_file::{self, FileError},
    plan::Plan,
    status::{Standing, Status},
};

use crate::{
    cli::{Cli, Command},
    present::{left_behind, table},
};

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
    #[error(transparent)]
    Reconcile(#[from] command::reconcile::Failure),
    /// Said already.
    #[error("")]
    NotRunning,
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::File(_) | Self::CannotAsk | Self::Declined => 2,
            Self::NotRunning => 5,
            Self::Reconcile(failure) => failure.exit_code(),
            Self::Connect(error) => exit_code(error),
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

/// The code for what went wrong with Kafka Connect.
pub(crate) fn exit_code(error: &ConnectError) -> u8 {
    match error {
        ConnectError::InvalidUrl { .. } => 2,
        ConnectError::Unreachable { .. }
        | ConnectError::NoAnswer { .. }
        | ConnectError::Unauthorized { .. }
        | ConnectError::NotConnect { .. } => 3,
        ConnectError::Refused { .. } | ConnectError::InvalidConfig { .. } | ConnectError::NotFound { .. } => {
            4
        }
        ConnectError::Failed { .. } | ConnectError::Halted { .. } | ConnectError::NotRunning { .. } => 5,
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
        Command::Reconcile(options) => Ok(command::reconcile::run(&api, options).await?),
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
