//! `connectors doctor`

use std::time::Duration;

use clap::Args;
use connectors::{
    ConnectApi,
    doctor::{Finding, Level, Patient, examine},
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
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let levels = [Level::Wrong, Level::Warning, Level::Ok, Level::Unseen];
    let counts: Vec<String> = levels
        .into_iter()
        .filter(|level| count(*level) > 0)
        .map(|level| format!("{} {level}", count(level)))
        .collect();
    let mut lines = vec![format!("{connector}: {}", counts.join(", "))];
    for level in levels {
        for finding in findings.iter().filter(|finding| finding.level == level) {
            lines.push(format!("{level:8} {:17} {}", finding.check, finding.seen));
            let next = finding.next.iter();
            lines.extend(next.map(|next| format!("{:26} → {next}", "")));
        }
    }
    lines.join("\n")
}
