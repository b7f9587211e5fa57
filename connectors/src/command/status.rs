//! `connectors status`: once, or again and again until it is interrupted.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    time::Duration,
};

use anstream::println;
use clap::Args;
use connectors::{
    ConnectApi, ConnectError,
    report::{self, Report},
    servers::Servers,
    status::Standing,
};

use super::servers::ServerOptions;
use crate::{
    cli::seconds,
    command::within,
    failure::Failure,
    present::{surroundings, table},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connectors; all if none is named
    names: Vec<String>,
    /// Print JSON, with whole stack traces
    #[arg(long)]
    json: bool,
    /// Look again every few seconds; without a terminal, print a line for each change
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          conflicts_with = "json", value_parser = seconds)]
    watch: Option<Duration>,
    /// Seconds to wait for each answer of Kafka Connect
    #[arg(long, default_value = "30", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    servers: ServerOptions,
}

pub(crate) async fn run(api: &ConnectApi, options: Options) -> Result<(), Failure> {
    let Options {
        names,
        json,
        watch,
        timeout,
        servers,
    } = options;
    let servers = servers.servers();
    if let Some(pause) = watch {
        return watch_for_ever(api, &servers, &names, timeout, pause).await;
    }
    let reports = look(api, &servers, &names, timeout).await?;
    if json {
        println!("{:#}", serde_json::json!(reports));
    } else {
        println!("{}", page(&reports));
    }
    let running = |report: &Report| Standing::of(&report.status) == Standing::Running;
    if reports.is_empty() || !reports.iter().all(running) {
        return Err(Failure::NotRunning);
    }
    Ok(())
}

async fn look(
    api: &ConnectApi,
    servers: &Servers,
    names: &[String],
    timeout: Duration,
) -> Result<Vec<Report>, ConnectError> {
    let mut statuses = within(api, timeout, || api.statuses()).await?;
    if let Some(missing) = names
        .iter()
        .find(|name| statuses.iter().all(|status| status.name != **name))
    {
        let connector = missing.clone();
        return Err(ConnectError::NotFound { connector });
    }
    statuses.retain(|status| names.is_empty() || names.contains(&status.name));
    report::read(api, servers, statuses, timeout).await
}

fn page(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "Kafka Connect has no connectors; `connectors apply` creates them".to_owned();
    }
    let table = table(reports.iter().map(|report| &report.status));
    if reports.iter().any(|report| report.capture.is_some()) {
        format!("{table}\n\n{}", surroundings(reports))
    } else {
        table.to_string()
    }
}

/// What Kafka Connect does not answer is a change like any other.
async fn watch_for_ever(
    api: &ConnectApi,
    servers: &Servers,
    names: &[String],
    timeout: Duration,
    pause: Duration,
) -> Result<(), Failure> {
    let terminal = io::stdout().is_terminal();
    let mut told = BTreeMap::new();
    loop {
        let seen = look(api, servers, names, timeout).await;
        if terminal {
            let text = seen.map_or_else(|error| error.to_string(), |reports| page(&reports));
            // Clears the screen and begins at its top.
            println!("\x1b[2J\x1b[H{text}");
        } else {
            let facts: Vec<(String, String)> = match seen {
                Ok(reports) => reports
                    .iter()
                    .flat_map(Report::facts)
                    .chain([answers()])
                    .collect(),
                Err(error) => vec![(KAFKA_CONNECT.to_owned(), error.to_string())],
            };
            for line in changes(&mut told, facts) {
                println!("{line}");
            }
        }
        tokio::time::sleep(pause).await;
    }
}

const KAFKA_CONNECT: &str = "Kafka Connect";

fn answers() -> (String, String) {
    (KAFKA_CONNECT.to_owned(), "answers".to_owned())
}

/// A line for each fact that is new or otherwise than it was told.
fn changes(told: &mut BTreeMap<String, String>, facts: Vec<(String, String)>) -> Vec<String> {
    let mut lines = Vec::new();
    for (part, now) in facts {
        match told.insert(part.clone(), now.clone()) {
            None => lines.push(format!("{part}: {now}")),
            Some(before) if before != now => lines.push(format!("{part}: {before} -> {now}")),
            Some(_) => (),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_told() {
        let facts = |state: &str| vec![("x task 0".to_owned(), state.to_owned())];
        let mut told = BTreeMap::new();
        assert_eq!(changes(&mut told, facts("RUNNING")), ["x task 0: RUNNING"]);
        assert_eq!(changes(&mut told, facts("RUNNING")), [""; 0]);
        assert_eq!(
            changes(&mut told, facts("FAILED")),
            ["x task 0: RUNNING -> FAILED"]
        );
    }
}
