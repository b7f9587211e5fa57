//! `connectors doctor`

use std::time::Duration;

use anstream::println;
use clap::Args;
use connectors::{
    ConnectApi,
    doctor::{Finding, Level, NEEDS_ANOTHER, Patient, examine},
    shipped,
};
use serde_json::json;

use super::servers::ServerOptions;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The connector
    #[arg(default_value = shipped::NAME)]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: ServerOptions,
    /// The role that the connector logs into PostgreSQL with
    #[arg(long, default_value = shipped::ROLE)]
    role: String,
    /// chat-service's consumer group
    #[arg(long, env = "KAFKA_GROUP_ID", default_value = "chat-service")]
    group: String,
    /// chat-service's --fence-ttl
    #[arg(long, env = "FENCE_TTL", default_value = "30d", value_parser = service_kit::duration::parse)]
    fence_ttl: Duration,
}

pub(crate) async fn run(api: &ConnectApi, options: Options) -> Result<(), Failure> {
    let Options {
        name,
        json,
        servers,
        role,
        group,
        fence_ttl,
    } = options;
    let patient = Patient {
        connector: name,
        role,
        group,
        fence_ttl,
    };
    let findings = examine(api, &servers.servers(), &patient).await;
    if json {
        println!(
            "{:#}",
            json!({ "connector": patient.connector, "findings": findings })
        );
    } else {
        println!("{}", page(&patient.connector, &findings));
    }
    if findings.iter().any(|finding| finding.level == Level::Wrong) {
        return Err(Failure::Said(5));
    }
    Ok(())
}

/// What is wrong comes first.
fn page(connector: &str, findings: &[Finding]) -> String {
    let at = |level| findings.iter().filter(move |finding| finding.level == level);
    let counts = [
        (Level::Wrong, "wrong"),
        (Level::Warning, "to heed"),
        (Level::Ok, "ok"),
        (Level::Unseen, "unseen"),
    ];
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(level, name)| (at(level).count(), name))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let mut lines = vec![format!("{connector}: {}", counts.join(", "))];
    for finding in [Level::Wrong, Level::Warning, Level::Ok].into_iter().flat_map(at) {
        lines.push(line(finding.level, finding.check, &finding.seen));
        let next = finding.next.iter();
        lines.extend(next.map(|next| format!("{:26} → {next}", "")));
    }
    // One server that was not asked leaves many checks unseen.
    let (follow, reasons): (Vec<_>, Vec<_>) =
        at(Level::Unseen).partition(|finding| finding.seen == NEEDS_ANOTHER);
    lines.extend(
        reasons
            .iter()
            .map(|finding| line(finding.level, finding.check, &finding.seen)),
    );
    if !follow.is_empty() {
        let checks: Vec<&str> = follow.iter().map(|finding| finding.check).collect();
        lines.push(format!(
            "{:8} {}: {NEEDS_ANOTHER}",
            Level::Unseen,
            checks.join(", ")
        ));
    }
    lines.join("\n")
}

fn line(level: Level, check: &str, seen: &str) -> String {
    format!("{level:8} {check:17} {seen}")
}
