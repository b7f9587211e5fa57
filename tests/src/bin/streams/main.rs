//! Measures open event streams on one chat-service: what they take, how soon an event arrives, and what
//! requests notice of them. Everything in one run on one machine, so that figures can be compared.
//!
//! ```console
//! $ cargo streams                         # 2,000 and 10,000 streams, MongoDB pool of 10
//! $ cargo streams --streams 500 --seconds 5
//! ```

#![expect(clippy::print_stdout, reason = "this program prints what it measured")]

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    listeners::Listeners,
    measure::{delivery, requests},
    report::{Level, Report},
    service::Service,
};

mod listeners;
mod measure;
mod report;
mod service;

/// File descriptors beside those of the streams.
const SPARE: u64 = 500;

#[derive(Debug, Parser)]
#[command(about = "Measures open event streams on one chat-service")]
struct Options {
    /// Numbers of open streams to measure at, smallest first.
    #[arg(long, value_delimiter = ',', default_values_t = [2_000, 10_000])]
    streams: Vec<usize>,

    /// Seconds that each measurement takes.
    #[arg(long, default_value_t = 20)]
    seconds: u64,

    /// Connections that each MongoDB client of the service may open.
    #[arg(long, default_value_t = 10)]
    pool: u32,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let most = options.streams.iter().copied().max().unwrap_or_default();
    allow_files(most as u64 + SPARE)?;
    let duration = Duration::from_secs(options.seconds);

    let service = Service::start(options.pool, most).await?;
    // What is allocated with the first requests is not the streams'.
    requests(&service, duration / 4).await?;
    let mut one = Listeners::default();
    one.extend(&service, 1).await?;
    delivery(&service, &mut one, duration / 4).await?;
    one.close().await;

    let mut report = Report::new(service.pool, requests(&service, duration).await?);
    let mut listeners = Listeners::default();
    let empty = service.resident().await?;
    for streams in options.streams {
        let opened = listeners.extend(&service, streams).await?;
        let idle = service.resident().await?;
        let requests = requests(&service, duration).await?;
        let delivery = delivery(&service, &mut listeners, duration).await?;
        report.add(Level {
            streams,
            opened,
            memory: idle.saturating_sub(empty) / streams,
            memory_after: service.resident().await?.saturating_sub(empty) / streams,
            requests,
            delivery,
        });
    }
    listeners.close().await;
    report.afterwards(requests(&service, duration).await?);
    let held = report.print();
    service.stop().await?;
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Lets this process and the service, which inherits it, open that many files.
fn allow_files(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "{wanted} files have to be open at once and {} are allowed: raise the hard limit (`ulimit -Hn`), or \
         measure fewer streams (`--streams`)",
        limit.maximum.unwrap_or_default()
    );
    let raised = Rlimit {
        current: Some(wanted),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("the limit of open files could not be raised")
}
