//! `connectors apply`

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use connectors::{ConnectApi, Outcome, apply_telling, config_file, plan::Plan};

use crate::{cli::seconds, failure::Failure};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connector files, or folders of them
    #[arg(default_value = "connectors")]
    paths: Vec<PathBuf>,
    /// Seconds that one connector may take to be RUNNING
    #[arg(long, default_value = "60", value_parser = seconds)]
    timeout: Duration,
}

/// Goes on after a connector that could not be applied, and ends with the first failure.
pub(crate) async fn run(api: &ConnectApi, options: Options) -> Result<(), Failure> {
    let mut first_failure = None;
    for file in config_file::read_all(&options.paths)? {
        let name = &file.name;
        let started = Instant::now();
        let outcome = apply_telling(api, name, &file.config, options.timeout, |plan| {
            announce(name, plan)
        })
        .await;
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
