//! `connectors doctor`

use std::time::Duration;

use clap::Args;
use connectors::{
    ConnectApi,
    doctor::{Finding, Level, Patient, examine},
    shipped,
};
use serde_json::json;

use super::access::AccessOptions;
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
    access: AccessOptions,
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
        access,
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
    let findings = examine(api, &access.access(), &patient).await;
    if json {
        println!(
            "{:#}",
            json!({ "connector": patient.connector, "findings": findings })
        );
    } else {
        print!("{}", page(&patient.connector, &findings));
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
    let mut page = format!("{connector}: {}\n", counts.join(", "));
    for level in levels {
        for finding in findings.iter().filter(|finding| finding.level == level) {
            page += &format!("{:8} {:17} {}\n", level, finding.check, finding.seen);
            if let Some(next) = &finding.next {
                page += &format!("{:26} → {next}\n", "");
            }
        }
    }
    page
}
