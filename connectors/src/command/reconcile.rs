//! `connectors reconcile`: says what it does at each step, shows what would be closed, asks, and says what was.

use std::time::Duration;

use anstream::println;
use clap::Args;
use connectors::{
    ConnectApi,
    reconcile::{self, Candidate, ChatAdmin, Database, ReconcileError, Reconciliation, Reconciling, State},
};

use crate::{ask::confirm, cli::seconds, failure::Failure};

/// So many posts are shown where the others are only counted.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The connector that captures the trade posts
    #[arg(default_value = "trade-posts")]
    connector: String,
    /// PostgreSQL database of the trade posts, for a role that may read `trade_posts` and write signals
    #[arg(
        long,
        env = "TRADE_DATABASE_URL",
        hide_env_values = true,
        required_unless_present = "cancel"
    )]
    database_url: Option<String>,
    /// Address of the admin listener of chat-service, any instance
    #[arg(long, env = "CHAT_ADMIN_URL", default_value = "http://127.0.0.1:8091")]
    chat_admin_url: String,
    /// List all that would be closed, and close nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before closing
    #[arg(long, short, conflicts_with = "dry_run")]
    yes: bool,
    /// Seconds until it is known what was missed; a table of a million posts takes minutes
    #[arg(long, default_value = "3600", value_parser = seconds)]
    timeout: Duration,
    /// End a reconciliation that has not ended, with nothing closed
    #[arg(long, value_name = "ID", conflicts_with_all = ["dry_run", "yes"])]
    cancel: Option<String>,
}

pub(crate) async fn run(connect: &ConnectApi, options: Options) -> Result<(), Failure> {
    let chat = ChatAdmin::new(&options.chat_admin_url)?;
    if let Some(id) = &options.cancel {
        chat.cancel(id).await?;
        println!("{id}: cancelled, nothing is closed");
        return Ok(());
    }
    let database = Database::new(options.database_url.as_deref().unwrap_or_default())?;
    let connector = options.connector.as_str();
    let settings = reconcile::check(connect, &database, connector).await?;
    println!("waiting for transactions and snapshots that are under way");
    let run = Reconciling::begin(connect, &chat, &database, connector, &settings, options.timeout).await?;
    println!(
        "{}: begun; {connector} reads {} rows at once",
        run.id, settings.chunk_size
    );
    let found = tokio::select! {
        found = find(&run, options.dry_run) => found?,
        _ = tokio::signal::ctrl_c() => {
            run.cancel().await?;
            return Err(Failure::Interrupted);
        }
    };
    if options.dry_run {
        run.cancel().await?;
        println!("{found}; nothing is closed, because this was a dry run");
        return Ok(());
    }
    println!("{found}");
    if found.posts > 0 {
        let question = format!(
            "Close these {} posts and erase their chats for good?",
            found.posts
        );
        if let Err(no) = confirm(&question, options.yes) {
            run.cancel().await?;
            return Err(no);
        }
    }
    let mut progress = Progress::default();
    let done = run.confirm(|run| progress.tell(run)).await?;
    println!(
        "{}: closed {} posts and {} rooms",
        done.id, done.posts_closed, done.rooms_closed
    );
    Ok(())
}

/// Waits until what was missed is known, shows it, and asks PostgreSQL whether it is really not there.
async fn find(run: &Reconciling<'_>, all: bool) -> Result<Found, ReconcileError> {
    let mut progress = Progress::default();
    let ready = run.ready(|run| progress.tell(run)).await?;
    let mut found = Found {
        rows: ready.rows.unwrap_or_default(),
        ..Found::default()
    };
    run.second_look(|posts| {
        for post in posts {
            if all || found.posts < SHOWN {
                println!("  {}", line(post));
            }
            found.posts += 1;
            found.rooms += post.open_rooms;
        }
    })
    .await?;
    if !all && found.posts > SHOWN {
        println!("  … and {} more; --dry-run lists all", found.posts - SHOWN);
    }
    Ok(found)
}

/// What was missed.
#[derive(Debug, Default)]
struct Found {
    rows: i64,
    posts: usize,
    rooms: i64,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, posts, rooms } = self;
        match posts {
            0 => write!(f, "no delete was missed; the table has {rows} rows"),
            _ => write!(
                f,
                "{posts} posts with {rooms} open rooms are not in the table any more, which has {rows} rows"
            ),
        }
    }
}

fn line(post: &Candidate) -> String {
    let Candidate {
        trade_post_id,
        title,
        status,
        open_rooms,
    } = post;
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    // A title is a member's text, and a terminal obeys some characters.
    let title: String = text(title)
        .chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect();
    format!(
        "post {trade_post_id}  {}  {open_rooms} open rooms  {title}",
        text(status)
    )
}

/// Says what is new.
#[derive(Default)]
struct Progress {
    said: String,
}

impl Progress {
    fn tell(&mut self, run: &Reconciliation) {
        let now = match run.state {
            State::Waiting => "waiting for Debezium to begin".to_owned(),
            State::Scanning => match (&run.last_key, &run.maximum_key) {
                (Some(last), Some(maximum)) => format!("reading the table: up to post {last} of {maximum}"),
                _ => "reading the table".to_owned(),
            },
            State::Scanned => "the table is read; waiting until Kafka has all of it".to_owned(),
            State::Draining => "waiting until chat-service has read all of it".to_owned(),
            State::Closing => format!("closing: {} posts", run.posts_closed),
            State::Ready | State::Done | State::Failed | State::Cancelled => return,
        };
        if now != self.said {
            println!("{now}");
            self.said = now;
        }
    }
}
