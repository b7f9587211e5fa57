//! `connectors apply`: read all files, look at all connectors, show what differs, ask, and only then change
//! one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use anstream::println;
use anstyle::{AnsiColor, Style};
use clap::Args;
use connectors::{
    Config, ConnectApi, Outcome, Prepared, config_file,
    plan::{Difference, Plan},
    prepare,
    slots::{Others, Owned, shared_slots, to_come},
};

use crate::{
    ask::{can_ask, confirm},
    cli::seconds,
    command::within,
    failure::{Failure, Failures},
    present::left_behind,
    progress::Progress,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connector files, or folders of them
    #[arg(default_value = "connectors")]
    paths: Vec<PathBuf>,
    /// Show what would be changed and change nothing; exit with 6 if that is anything
    #[arg(long)]
    dry_run: bool,
    /// Do not ask. Without a terminal there is nobody to ask: then connectors are created and updated,
    /// and deleted only with this
    #[arg(long, short)]
    yes: bool,
    /// Delete the connectors that no file describes, before anything else is changed. Takes folders only:
    /// files named one by one are never all of them
    #[arg(long)]
    prune: bool,
    /// Seconds that one connector may take to be RUNNING
    #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    timeout: Duration,
}

pub(crate) async fn run(api: &ConnectApi, options: &Options) -> Result<(), Failure> {
    if let Some(file) = options.paths.iter().find(|path| options.prune && !path.is_dir()) {
        return Err(Failure::Usage(format!(
            "--prune deletes every connector that no file describes, so it takes folders, and {} is none",
            file.display()
        )));
    }
    let files = config_file::read_all(&options.paths)?;
    let existing = within(api, options.timeout, || api.configs()).await?;
    let going = going(options.prune, &existing, &files);
    let prepared = look(api, options, &files, &existing, &going).await?;

    for connector in &prepared {
        announce(connector);
    }
    let gone = going.keys().cloned().collect();
    let to_come = to_come(&files, &existing, &gone);
    for (name, config) in &going {
        println!(
            "{name}: to be deleted, no file describes it{}",
            staying(name, config, &to_come)
        );
    }
    let something = !going.is_empty() || prepared.iter().any(Prepared::does_something);
    if options.dry_run {
        if something {
            return Err(Failure::Changes);
        }
        println!("nothing to change");
        return Ok(());
    }
    let changes = prepared
        .iter()
        .any(|connector| *connector.plan() != Plan::Unchanged);
    // A pipeline has nobody to ask, and has been able to apply without being asked from the start.
    if !going.is_empty() || (changes && can_ask()) {
        confirm("Change this in Kafka Connect?", options.yes)?;
    }
    prune(api, options, &going, &to_come).await?;
    let mut failures = Failures::default();
    for connector in &prepared {
        if let Err(failure) = carry_out(api, options, connector).await {
            failures.add(failure)?;
        }
    }
    failures.end()
}

/// The connectors that no file describes, by name.
fn going(
    prune: bool,
    existing: &BTreeMap<String, Config>,
    files: &[config_file::ConnectorFile],
) -> BTreeMap<String, Config> {
    let described: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    existing
        .iter()
        .filter(|(name, _)| prune && !described.contains(name.as_str()))
        .map(|(name, config)| (name.clone(), config.clone()))
        .collect()
}

/// All connectors, or everything that is wrong with any of them; changes nothing.
async fn look(
    api: &ConnectApi,
    options: &Options,
    files: &[config_file::ConnectorFile],
    existing: &BTreeMap<String, Config>,
    going: &BTreeMap<String, Config>,
) -> Result<Vec<Prepared>, Failure> {
    let mut failures = Failures::default();
    let gone = going.keys().cloned().collect();
    for error in shared_slots(files, existing, &gone) {
        failures.add(error.into())?;
    }
    let mut prepared = Vec::new();
    for file in files {
        let progress = Progress::new(&format!("{}: looking", file.name));
        let seen = prepare(api, &file.name, &file.config, options.timeout).await;
        drop(progress);
        match seen {
            Ok(seen) => prepared.push(seen),
            Err(error) => failures.add(error.into())?,
        }
    }
    failures.end()?;
    Ok(prepared)
}

/// What a connector that goes leaves in PostgreSQL.
fn staying(name: &str, config: &Config, to_come: &[(&str, &Config)]) -> String {
    let Some(owned) = Owned::of(config) else {
        return String::new();
    };
    let Others { slot, publication } = owned.others(name, to_come.iter().copied());
    let of = |others: &[String]| match others {
        [] => String::new(),
        others => format!(" (also of {})", others.join(", ")),
    };
    format!(
        "; the slot {}{} and the publication {}{} stay",
        owned.slot,
        of(&slot),
        owned.publication,
        of(&publication)
    )
}

async fn prune(
    api: &ConnectApi,
    options: &Options,
    going: &BTreeMap<String, Config>,
    to_come: &[(&str, &Config)],
) -> Result<(), Failure> {
    for (name, config) in going {
        within(api, options.timeout, || api.delete(name)).await?;
        println!("{name}: deleted");
        if let Some(owned) = Owned::of(config) {
            let others = owned.others(name, to_come.iter().copied());
            println!("{}", left_behind(&owned, &others).trim_end());
        }
    }
    Ok(())
}

async fn carry_out(api: &ConnectApi, options: &Options, connector: &Prepared) -> Result<(), Failure> {
    let name = connector.name();
    let started = Instant::now();
    let progress = Progress::new(name);
    let outcome = connector
        .carry_out(api, options.timeout, |status| progress.show(status))
        .await;
    drop(progress);
    let done = match outcome? {
        Outcome::Created => "created",
        Outcome::Updated => "updated",
        Outcome::Unchanged => "unchanged",
        Outcome::Restarted => "unchanged, started again",
    };
    println!(
        "{name}: {done}, RUNNING ({:.1} s)",
        started.elapsed().as_secs_f32()
    );
    Ok(())
}

fn announce(connector: &Prepared) {
    let name = connector.name();
    match connector.plan() {
        Plan::Create => println!("{name}: does not exist"),
        Plan::Update(_) => println!("{name}: differs"),
        Plan::Unchanged if connector.has_failed() => {
            println!("{name}: configuration as it should be, has FAILED: to be restarted");
        }
        Plan::Unchanged => (),
    }
    for difference in connector.differences() {
        let style = style(&difference);
        println!("  {style}{difference}{style:#}");
    }
}

fn style(difference: &Difference) -> Style {
    match (&difference.before, &difference.after) {
        (None, _) => AnsiColor::Green.on_default(),
        (_, None) => AnsiColor::Red.on_default(),
        _ => AnsiColor::Yellow.on_default(),
    }
}
