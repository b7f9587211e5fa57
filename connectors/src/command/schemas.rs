//! `connectors schemas`: the schema registry against what chat-service needs.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anstream::println;
use clap::{Args, Subcommand, ValueEnum};
use connectors::{
    registry::{RegistryApi, Version},
    schemas::{Half, Table, check, history, subjects},
};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Confluent-compatible API of the schema registry, as chat-service has it
    #[arg(
        long,
        global = true,
        env = "SCHEMA_REGISTRY_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:8081/apis/ccompat/v7"
    )]
    registry_url: String,
    /// The connector's topic.prefix; subjects are PREFIX.public.trade_posts-key, and so on
    #[arg(long, global = true, default_value = history::TOPIC_PREFIX)]
    topic_prefix: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether chat-service can read what is written with the newest schemas; exits with 5 if not
    Check,
    /// Register the schemas that Debezium is going to write with, in a new environment
    ///
    /// With them a subject exists, and its compatibility can be set, before the first record.
    Register {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Set which changes the registry lets through
    SetCompatibility {
        #[arg(value_enum, ignore_case = true)]
        level: Level,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Add the registry's versions that a folder of kept ones lacks
    Keep {
        #[arg(default_value = "schemas/history")]
        folder: PathBuf,
    },
}

/// The registry's compatibility levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
enum Level {
    /// The new schema reads what was written with the newest one
    Backward,
    /// The new schema reads what was written with any
    BackwardTransitive,
    /// The newest schema reads what is written with the new one
    Forward,
    /// Every schema reads what is written with the new one
    ForwardTransitive,
    /// Both, of the newest one
    Full,
    /// Both, of every one
    FullTransitive,
    /// Everything is let through
    None,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let api = RegistryApi::new(&options.registry_url)?;
    let prefix = &options.topic_prefix;
    match options.command {
        Command::Check => check(&api, prefix).await,
        Command::Register { dry_run } => register(&api, prefix, dry_run).await,
        Command::SetCompatibility { level, dry_run } => set_compatibility(&api, prefix, level, dry_run).await,
        Command::Keep { folder } => keep(&api, prefix, &folder).await,
    }
}

async fn check(api: &RegistryApi, prefix: &str) -> Result<(), Failure> {
    let (mut readable, mut there) = (true, false);
    for (table, half, subject) in subjects(prefix) {
        let Some(Version { version, id, schema }) = api.latest(&subject).await? else {
            println!("{subject}: there is none yet; it comes with the first record");
            continue;
        };
        there = true;
        let shown = format!("{subject} version {version} (id {id})");
        match check::problems(table, half, &schema) {
            Ok(problems) if problems.is_empty() => println!("{shown}: chat-service can read it"),
            Ok(problems) => {
                readable = false;
                println!("{shown}: chat-service cannot read it");
                for problem in problems {
                    println!("  {problem}");
                }
            }
            Err(error) => {
                readable = false;
                println!("{shown}: {error}");
            }
        }
    }
    match (there, readable) {
        // Rather another registry or prefix than a system without any record.
        (false, _) => Err(no_subject(&Half::Value.subject(&Table::TradePosts.topic(prefix)))),
        (true, false) => Err(Failure::Said(5)),
        (true, true) => Ok(()),
    }
}

async fn register(api: &RegistryApi, prefix: &str, dry_run: bool) -> Result<(), Failure> {
    for (table, half, subject) in subjects(prefix) {
        let wanted = history::for_prefix(table, half, prefix);
        match api.latest(&subject).await? {
            Some(latest) if history::same(&latest.schema, &wanted) => {
                println!(
                    "{subject}: unchanged, version {} (id {})",
                    latest.version, latest.id
                );
            }
            // The table has gone on since, or the registry is an older system's.
            Some(latest) => println!(
                "{subject}: left alone, its version {} (id {}) is another schema",
                latest.version, latest.id
            ),
            None if dry_run => println!("{subject}: would be registered"),
            None => {
                let id = api.register(&subject, &wanted).await?;
                println!("{subject}: registered (id {id})");
            }
        }
    }
    Ok(())
}

async fn set_compatibility(
    api: &RegistryApi,
    prefix: &str,
    level: Level,
    dry_run: bool,
) -> Result<(), Failure> {
    let subjects: Vec<String> = subjects(prefix).map(|(.., subject)| subject).collect();
    let known = api.subjects().await?;
    // Nothing is set where one of them is missing.
    if let Some(missing) = subjects.iter().find(|subject| !known.contains(subject)) {
        return Err(no_subject(missing));
    }
    let level = level.to_possible_value().map(|value| value.get_name().to_owned());
    let level = level.unwrap_or_default();
    for subject in &subjects {
        let before = api
            .compatibility(subject)
            .await?
            .unwrap_or_else(|| "NONE".to_owned());
        if before == level {
            println!("{subject}: unchanged, {level}");
            continue;
        }
        if !dry_run {
            api.set_compatibility(subject, &level).await?;
        }
        let would = if dry_run { " (not done)" } else { "" };
        println!("{subject}: {before} -> {level}{would}");
    }
    Ok(())
}

async fn keep(api: &RegistryApi, prefix: &str, folder: &Path) -> Result<(), Failure> {
    let mut all = BTreeMap::new();
    for table in Table::ALL {
        let folder = folder.join(table.short_name());
        let kept = history::read(&folder).map_err(|source| in_folder(&folder, source))?;
        all.insert(table, kept);
    }
    for (table, half, subject) in subjects(prefix) {
        let folder = folder.join(table.short_name());
        let kept = all.entry(table).or_default();
        for number in api.versions(&subject).await? {
            let Some(version) = api.version(&subject, number).await? else {
                continue;
            };
            let schema = history::kept(table, &version.schema, prefix);
            if kept
                .iter()
                .any(|(_, of, known)| *of == half && history::same(known, &schema))
            {
                continue;
            }
            let next = 1 + kept
                .iter()
                .filter(|(_, of, _)| *of == half)
                .map(|(number, ..)| *number)
                .max()
                .unwrap_or(0);
            let name = history::file_name(next, half);
            fs::write(folder.join(&name), format!("{schema}\n"))
                .map_err(|source| in_folder(&folder, source))?;
            println!("{}/{name}: version {number} of {subject}", table.short_name());
            kept.push((next, half, schema));
        }
    }
    Ok(())
}

fn no_subject(subject: &str) -> Failure {
    Failure::NoSubject {
        subject: subject.to_owned(),
    }
}

fn in_folder(folder: &Path, source: io::Error) -> Failure {
    Failure::Folder {
        path: folder.to_owned(),
        source,
    }
}
