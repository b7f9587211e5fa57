//! `connectors reconcile`: says what it does at each step, shows what would be closed, asks, and says what was.

use std::time::Duration;

use anstream::{eprintln, println};
use clap::Args;
use connectors::{
    ConnectApi,
    reconcile::{
        self, Candidate, ChatAdmin, Database, KeywordCandidate, PostCandidate, ReconcileError,
        Reconciliation, Reconciling, Settings, State,
    },
    schemas::Table,
};
use service_kit::lifecycle::shutdown_on_signal;
use tokio_util::sync::CancellationToken;

use crate::{ask::confirmed, cli::seconds, failure::Failure};

/// So many rows are shown where the others are only counted.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The connector that captures the trade posts
    #[arg(default_value = "trade-posts")]
    connector: String,
    /// Only this table; each that is captured, one after the other, if none is named
    #[arg(long, value_parser = table, value_name = "trade-posts|keywords")]
    table: Option<Table>,
    /// PostgreSQL database of the tables, for a role that may read them and write signals
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

fn table(text: &str) -> Result<Table, String> {
    let named = Table::KEPT.into_iter().find(|table| table.short_name() == text);
    named.ok_or_else(|| "it is trade-posts or keywords".to_owned())
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
    if let Some(table) = options.table
        && !settings.tables.contains(&table)
    {
        let wrong = ReconcileError::Setting {
            connector: options.connector,
            setting: "table.include.list",
            problem: format!("does not name {}", table.name()),
        };
        return Err(wrong.into());
    }
    let mut repair = Repair {
        connect,
        chat: &chat,
        database: &database,
        settings: &settings,
        options: &options,
        interrupted: shutdown_on_signal(),
        done: Vec::new(),
    };
    let wanted = |table| settings.tables.contains(&table) && options.table.is_none_or(|only| only == table);
    if wanted(Table::TradePosts) {
        repair.of::<PostCandidate>().await?;
    }
    if wanted(Table::Keywords) {
        repair.of::<KeywordCandidate>().await?;
    }
    Ok(())
}

/// Rows of a table, and what is said of them.
trait Shown: Candidate {
    /// For people: `posts`.
    const ROWS: &str;
    /// That nothing was done to them.
    const UNTOUCHED: &str;

    /// One of them in a line.
    fn line(&self) -> String;

    fn open_rooms(&self) -> i64;

    /// What is asked before they are done away with.
    fn question(found: usize) -> String;

    fn done(run: &Reconciliation) -> String;
}

struct Repair<'a> {
    connect: &'a ConnectApi,
    chat: &'a ChatAdmin,
    database: &'a Database,
    settings: &'a Settings,
    options: &'a Options,
    /// Once for the whole command: the first listener takes the signal's usual effect away for good.
    interrupted: CancellationToken,
    /// What was done to earlier tables.
    done: Vec<String>,
}

impl Repair<'_> {
    /// One table, from the first question to the last answer.
    async fn of<C: Shown>(&mut self) -> Result<(), Failure> {
        let Self {
            connect,
            chat,
            database,
            settings,
            options,
            ref interrupted,
            ..
        } = *self;
        let connector = options.connector.as_str();
        println!(
            "{}: waiting for transactions and snapshots that are under way",
            C::ROWS
        );
        let start = tokio::select! {
            start = reconcile::start(connect, database, connector, options.timeout) => start?,
            () = interrupted.cancelled() => return Err(Failure::Interrupted(self.untouched::<C>())),
        };
        let run = Reconciling::begin(start, connect, chat, database, connector, settings, C::TABLE).await?;
        println!(
            "{}: begun; {connector} reads {} rows at once",
            run.id, settings.chunk_size
        );
        let found = tokio::select! {
            found = find::<C>(&run, options.dry_run) => found?,
            () = interrupted.cancelled() => return Err(self.break_off::<C>(&run).await),
        };
        if options.dry_run {
            run.cancel().await?;
            println!("{found}; nothing is closed, because this was a dry run");
            return Ok(());
        }
        println!("{found}");
        if found.number > 0 {
            let answer = tokio::select! {
                answer = confirmed(C::question(found.number), options.yes) => answer,
                () = interrupted.cancelled() => {
                    // The question's line is not ended.
                    eprintln!();
                    return Err(self.break_off::<C>(&run).await);
                }
            };
            if let Err(no) = answer {
                run.cancel().await?;
                return Err(match self.done.as_slice() {
                    [] => no,
                    _ => Failure::Unrepaired(self.untouched::<C>()),
                });
            }
        }
        let mut progress = Progress::default();
        let mut is_closing = false;
        let confirm = run.confirm(|run| {
            is_closing |= run.state == State::Closing;
            progress.tell(run);
        });
        let done = tokio::select! {
            done = confirm => Some(done?),
            () = interrupted.cancelled() => None,
        };
        let Some(done) = done else {
            return Err(self.break_off_late::<C>(&run, is_closing).await);
        };
        println!("{}: {}", done.id, C::done(&done));
        self.done.push(C::done(&done));
        Ok(())
    }

    /// Ends what was begun and not confirmed.
    async fn break_off<C: Shown>(&self, run: &Reconciling<'_>) -> Failure {
        let (id, untouched) = (&run.id, self.untouched::<C>());
        Failure::Interrupted(match run.cancel().await {
            Ok(()) => untouched,
            Err(error) => format!(
                "{untouched}; {id} has not ended, because {error}. End it with `connectors reconcile --cancel {id}`"
            ),
        })
    }

    /// Ends what was confirmed, unless chat-service has heard of it: nobody can take that back.
    async fn break_off_late<C: Shown>(&self, run: &Reconciling<'_>, is_heard: bool) -> Failure {
        let id = &run.id;
        let cancelled = if is_heard { None } else { Some(run.cancel().await) };
        Failure::Interrupted(match cancelled {
            Some(Ok(())) => self.untouched::<C>(),
            None | Some(Err(ReconcileError::Refused { status: 409, .. })) => {
                format!("{id} was confirmed, and chat-service finishes it by itself")
            }
            Some(Err(error)) => format!(
                "{id} may have been confirmed, and chat-service finishes it by itself then; else `connectors \
                 reconcile --cancel {id}` ends it. That could not be asked, because {error}"
            ),
        })
    }

    fn untouched<C: Shown>(&self) -> String {
        match self.done.as_slice() {
            [] => C::UNTOUCHED.to_owned(),
            done => format!("{}; before that: {}", C::UNTOUCHED, done.join(", ")),
        }
    }
}

/// Waits until what was missed is known, shows it, and asks PostgreSQL whether it is really not there.
async fn find<C: Shown>(run: &Reconciling<'_>, all: bool) -> Result<Found, ReconcileError> {
    let mut progress = Progress::default();
    let ready = run.ready(|run| progress.tell(run)).await?;
    let mut found = Found {
        what: C::ROWS,
        rows: ready.rows.unwrap_or_default(),
        number: 0,
        rooms: 0,
    };
    run.second_look::<C>(|page| {
        for row in page {
            if all || found.number < SHOWN {
                println!("  {}", row.line());
            }
            found.number += 1;
            found.rooms += row.open_rooms();
        }
    })
    .await?;
    if !all && found.number > SHOWN {
        println!("  … and {} more; --dry-run lists all", found.number - SHOWN);
    }
    Ok(found)
}

/// What was missed.
#[derive(Debug)]
struct Found {
    what: &'static str,
    /// Of the table.
    rows: i64,
    number: usize,
    rooms: i64,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            what,
            rows,
            number,
            rooms,
        } = self;
        match (number, rooms) {
            (0, _) => return write!(f, "no delete was missed; the table has {rows} rows"),
            (_, 0) => write!(f, "{number} {what}")?,
            _ => write!(f, "{number} {what} with {rooms} open rooms")?,
        }
        write!(f, " are not in the table any more, which has {rows} rows")
    }
}

impl Shown for PostCandidate {
    const ROWS: &str = "posts";
    const UNTOUCHED: &str = "no post is closed";

    fn line(&self) -> String {
        let Self {
            trade_post_id,
            title,
            status,
            open_rooms,
        } = self;
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

    fn open_rooms(&self) -> i64 {
        self.open_rooms
    }

    fn question(found: usize) -> String {
        format!("Close these {found} posts and erase their chats for good?")
    }

    fn done(run: &Reconciliation) -> String {
        format!("closed {} posts and {} rooms", run.posts_closed, run.rooms_closed)
    }
}

impl Shown for KeywordCandidate {
    const ROWS: &str = "keywords";
    const UNTOUCHED: &str = "no keyword is ended";

    /// What a member waits for is nobody else's business.
    fn line(&self) -> String {
        match self.member_id {
            Some(member) => format!("keyword {} of member {member}", self.keyword_id),
            None => format!("keyword {}", self.keyword_id),
        }
    }

    fn open_rooms(&self) -> i64 {
        0
    }

    fn question(found: usize) -> String {
        format!("End these {found} keywords, so that nobody is told of new posts by them?")
    }

    fn done(run: &Reconciliation) -> String {
        format!("ended {} keywords", run.keywords_ended)
    }
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
                (Some(last), Some(maximum)) => format!("reading the table: up to row {last} of {maximum}"),
                _ => "reading the table".to_owned(),
            },
            State::Scanned => "the table is read; waiting until Kafka has all of it".to_owned(),
            State::Draining => "waiting until chat-service has read all of it".to_owned(),
            // Of one of the two there are none.
            State::Closing => format!(
                "closing: {} of {}",
                run.posts_closed + run.keywords_ended,
                run.candidates.unwrap_or_default()
            ),
            State::Ready | State::Done | State::Failed | State::Cancelled => return,
        };
        if now != self.said {
            println!("{now}");
            self.said = now;
        }
    }
}
