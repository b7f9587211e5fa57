//! The command `local-stack`: runs the whole system on this machine.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command talks to whoever typed it"
)]

use std::{collections::HashSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use local_stack::{
    clean::clean,
    demo,
    progress::Progress,
    system::{System, SystemOptions},
    tokens::{BUYER, SAMPLE_TTL, SELLER, Signer},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The status of a process that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Runs the marketplace on this machine: real servers as plain processes, without containers.
#[derive(Debug, Parser)]
#[command(name = "local-stack", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything and keep it running until Ctrl-C
    Up {
        /// Remove what earlier runs have left, and start empty
        #[arg(long)]
        fresh: bool,
        /// How many processes of chat-service to run
        #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=8))]
        chat_instances: u16,
        #[command(flatten)]
        folder: Folder,
        /// A MongoDB replica set to use instead of the built-in server
        #[arg(long, env = "MONGODB_URI", hide_env_values = true, value_name = "URI")]
        mongodb_uri: Option<String>,
    },
    /// Show on the real system that a deleted post takes its chats with it
    Demo {
        /// Where data and logs are kept; what is there is removed first, and at the end if all went well
        #[arg(long, default_value = ".local-stack-demo", value_name = "FOLDER")]
        data_dir: PathBuf,
    },
    /// Print a token for a member of the system in the folder
    Token {
        /// A positive number; the samples are 101 and 202
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        member_id: i64,
        /// How many seconds it is valid
        #[arg(long, default_value_t = 3600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
        ttl: u64,
        #[command(flatten)]
        folder: Folder,
    },
    /// Remove the data of earlier runs
    Clean {
        /// Also remove the servers that were fetched and built
        #[arg(long)]
        cache: bool,
        #[command(flatten)]
        folder: Folder,
    },
}

#[derive(clap::Args, Debug)]
struct Folder {
    /// Where data, logs, keys and addresses are kept
    #[arg(long, default_value = ".local-stack", value_name = "FOLDER")]
    data_dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up {
            fresh,
            chat_instances,
            folder,
            mongodb_uri,
        } => {
            let options = SystemOptions {
                data_dir: Some(folder.data_dir),
                fresh,
                chat_instances,
                mongodb_uri,
                progress: Progress::detect(),
            };
            up(options).await
        }
        Command::Demo { data_dir } => {
            let mut interrupted = Interrupted::listen()?;
            let progress = Progress::detect();
            tokio::select! {
                shown = Box::pin(demo::run(data_dir, &progress)) => shown,
                // What was started ends with this process.
                () = interrupted.next() => std::process::exit(INTERRUPTED),
            }
        }
        Command::Token {
            member_id,
            ttl,
            folder,
        } => {
            let signer = Signer::open(&folder.data_dir)?;
            println!("{}", signer.token(member_id, Duration::from_secs(ttl))?);
            Ok(())
        }
        Command::Clean { cache, folder } => {
            for removed in clean(&folder.data_dir, cache)? {
                println!("removed {}", removed.display());
            }
            Ok(())
        }
    }
}

async fn up(options: SystemOptions) -> Result<()> {
    let progress = options.progress.clone();
    let mut interrupted = Interrupted::listen()?;
    let system = tokio::select! {
        system = Box::pin(System::start(options)) => system?,
        // What was started is gone with the future; what is being fetched or built goes with us.
        () = interrupted.next() => std::process::exit(INTERRUPTED),
    };
    println!("{}", summary(&system)?);
    tokio::select! {
        () = name_the_dead(&system) => (),
        () = interrupted.next() => (),
    }
    let step = progress.step("Stopping");
    tokio::select! {
        ended = Box::pin(system.end()) => ended?,
        () = interrupted.next() => std::process::exit(INTERRUPTED),
    }
    step.done();
    Ok(())
}

/// Addresses, tokens and first steps.
fn summary(system: &System) -> Result<String> {
    let endpoints = serde_json::to_value(system.endpoints())?;
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    for (name, address) in endpoints.as_object().into_iter().flatten() {
        let addresses: Vec<&str> = match address.as_array() {
            Some(all) => all.iter().filter_map(serde_json::Value::as_str).collect(),
            None => address.as_str().into_iter().collect(),
        };
        table.add_row([name.as_str(), &addresses.join("\n")]);
    }
    let (seller, buyer) = (
        system.signer.token(SELLER, SAMPLE_TTL)?,
        system.signer.token(BUYER, SAMPLE_TTL)?,
    );
    let (trade, chat) = (system.trade.url(), system.endpoints().chat_service);
    // Another host to browsers, so the session of the one is not that of the other.
    let other_chat = chat.replace("127.0.0.1", "localhost");
    let folder = system.stack.folder().display();
    Ok(format!(
        r#"{table}
The same is in {folder}/endpoints.json, logs are in {folder}/logs.

Tokens for a day; `cargo local-stack token MEMBER_ID` makes others.
  SELLER={seller}
  BUYER={buyer}

Try it, in three shells with these variables set:
  curl -N {chat}/v1/events -H "Authorization: Bearer $SELLER"
  curl {trade}/v1/trade-posts -H "Authorization: Bearer $SELLER" --json '{{"title":"자전거","body":"거의 새 것","price":120000,"category":"sports"}}'
  curl {chat}/v1/rooms -H "Authorization: Bearer $BUYER" --json '{{"trade_post_id":1}}'
Then delete the post and watch the stream:
  curl -X DELETE {trade}/v1/trade-posts/1 -H "Authorization: Bearer $SELLER"
Or chat about the post, and see it go, in a browser; as one member at each address:
  {chat}/demo
  {other_chat}/demo

Ctrl-C ends everything; the data stays."#
    ))
}

/// Says so when a process ends by itself; the others go on.
async fn name_the_dead(system: &System) {
    let mut dead = HashSet::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for server in system.servers() {
            if server.pid().is_none() && dead.insert(server.log()) {
                eprintln!(
                    "{} has ended; its log is {}",
                    server.name(),
                    server.log().display()
                );
            }
        }
    }
}

struct Interrupted {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupted {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}
