//! A marketplace of its own for one test: a PostgreSQL database and its capture, a topic, a consumer group,
//! a MongoDB database, and a process of each service. Servers are shared by all worlds of this process.
//!
//! Invariant: worlds see nothing of each other, and a world that ended, well or by a failed test, leaves
//! neither connector nor slot nor service behind: they would cost the others time.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use chat_service::store::Store;
use connectors::ConnectApi;
use futures_util::FutureExt;
use local_stack::{
    Stack,
    capture::{self, Capture},
    client::{Bases, Client},
    server::Server,
    services::{self, Service, ServiceOptions},
    testing,
    tokens::Signer,
};
use mongodb::bson::doc;
use serde_json::Value;
use sqlx::PgPool;
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use crate::{eventually::eventually, topic::Topic};

/// Worlds at a time. Each has a connector that polls, two services and a test that loads them.
static PLACES: Semaphore = Semaphore::const_new(3);
static WORLDS: AtomicU32 = AtomicU32::new(0);

const KAFKA_PROPERTIES: [&str; 2] = [
    // The topic comes with its first record; until then the client only looks for it now and then.
    "topic.metadata.refresh.interval.ms=200",
    // Not minutes: a consumer that stops polling is to be put out of the group before its test ends.
    "max.poll.interval.ms=12000",
];
const STOP_BOUND: Duration = Duration::from_secs(15);
/// A server that is stuck fails its test instead of holding all of them up.
const END_BOUND: Duration = Duration::from_mins(2);
const TOKEN_TTL: Duration = Duration::from_hours(1);

pub struct World {
    pub stack: &'static Stack,
    /// Also the name of its databases, topic prefix, connector, slot and consumer group.
    pub name: String,
    pub sql: PgPool,
    pub store: Store,
    pub trade: Service,
    pub chat: Service,
    /// What is in errors that a service is to log here; any other fails the test.
    pub wanted_errors: Vec<&'static str>,
    signer: Signer,
    capture: Option<Capture>,
    anybody: Client,
}

impl World {
    /// Runs `test` in a new world whose posts are captured.
    ///
    /// # Panics
    /// If the test does, a world cannot be had, or a service logged an error.
    pub async fn run(test: impl AsyncFnOnce(&mut Self)) {
        Self::run_before_capture(async |world| {
            world.capture(Capture::of_database(&world.name)).await;
            test(world).await;
        })
        .await;
    }

    /// Runs `test` in a new world whose posts are not captured until it calls [`World::capture`].
    ///
    /// # Panics
    /// If the test does, a world cannot be had, or a service logged an error.
    pub async fn run_before_capture(test: impl AsyncFnOnce(&mut Self)) {
        let _place = PLACES.acquire().await.expect("nobody closes the semaphore");
        let mut world = Box::pin(Self::start()).await.expect("a world starts");
        let outcome = AssertUnwindSafe(test(&mut world)).catch_unwind().await;
        if outcome.is_err() {
            world.show_complaints().await;
        }
        let ended = timeout(END_BOUND, Box::pin(world.end())).await;
        let ended = ended.unwrap_or_else(|_| Err(anyhow!("a server did not answer within {END_BOUND:?}")));
        match outcome {
            Ok(()) => ended.expect("the world ends in order"),
            Err(panic) => resume_unwind(panic),
        }
    }

    async fn start() -> Result<Self> {
        let stack = testing::stack().await;
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        // A MongoDB that MONGODB_URI names may have seen earlier runs.
        let name = format!("e2e_{}_{number}", std::process::id());
        let signer = signer(stack).await?;
        let database = stack.postgres.create_database(&name).await?;
        let trade = services::spawn_trade(stack, ServiceOptions::trade(stack, &signer, &name)?);
        let chat = services::spawn_chat(stack, chat_options(stack, &signer, &name)?);
        let (trade, chat) = tokio::try_join!(trade, chat)?;
        Ok(Self {
            sql: PgPool::connect(&database).await?,
            store: Store::new(stack.mongo.uri(), &name).await?,
            anybody: Client::new(bases(&trade, &chat), "")?,
            capture: None,
            stack,
            name,
            trade,
            chat,
            wanted_errors: Vec::new(),
            signer,
        })
    }

    /// Lets Debezium read the database, and answers once its connector runs.
    ///
    /// # Panics
    /// If the connector does not run.
    pub async fn capture(&mut self, capture: Capture) {
        let role = capture::prepare_role(&self.stack.postgres, &self.name).await;
        role.expect("the role for Debezium");
        let capture = self.capture.insert(capture);
        let applied = capture::apply_connector(self.stack, capture).await;
        applied.expect("the connector runs");
    }

    /// How another process of chat-service in this world is started.
    pub fn chat_options(&self) -> ServiceOptions {
        chat_options(self.stack, &self.signer, &self.name).expect("a free port")
    }

    /// The same with its demo page, to be tried as these members.
    ///
    /// # Panics
    /// If the file of members cannot be written.
    pub fn demo_options(&self, members: &[(&str, i64)]) -> ServiceOptions {
        let members = self.signer.write_members(members).expect("a file of members");
        self.chat_options().demo(members.display().to_string())
    }

    /// The API as that member's app speaks to it.
    pub fn member(&self, id: i64) -> Client {
        let token = self.signer.token(id, TOKEN_TTL).expect("a token");
        let app = self.anybody.with_token(token);
        // A test may have put another process in its place.
        app.at_chat(self.chat.url(), self.chat.admin_url())
    }

    /// The topic of the trade posts.
    pub fn topic(&self) -> Topic {
        Topic {
            bootstrap: self.stack.kafka.bootstrap(),
            name: format!("{}.public.trade_posts", self.name),
        }
    }

    /// The topic of the members' keywords. It is there once somebody has kept one.
    pub fn keywords_topic(&self) -> Topic {
        Topic {
            bootstrap: self.stack.kafka.bootstrap(),
            name: format!("{}.public.keywords", self.name),
        }
    }

    /// Ends the transactions that a process which has gone left open. The database would do so after a minute;
    /// until then what they wrote is locked, and the built-in server shows nothing new in any change stream.
    ///
    /// # Panics
    /// If MongoDB does not answer.
    pub async fn end_transactions(&self) {
        let admin = self.store.client.database("admin");
        // Twice: the last may begin on the server only now.
        for _ in 0..2 {
            // Connections may have been lost, too.
            eventually("MongoDB ends transactions", STOP_BOUND, async || {
                admin.run_command(doc! { "killAllSessions": [] }).await
            })
            .await;
        }
    }

    /// Lines of a service's log with one of these words.
    ///
    /// # Panics
    /// If it has no log.
    pub fn logged(&self, service: &Service, words: &[&str]) -> Vec<String> {
        lines(&service.server, words).expect("the service's log")
    }

    /// What a process of chat-service logged of partitions that it was given or that were taken from it.
    ///
    /// # Panics
    /// If it has no log.
    pub fn rebalances(&self, chat: &Service) -> Vec<String> {
        self.logged(chat, &["assigned ", "revoked "])
    }

    async fn end(self) -> Result<()> {
        tokio::join!(stop(&self.chat), stop(&self.trade));
        if let Some(capture) = &self.capture {
            capture::remove(self.stack, capture).await?;
        }
        self.sql.close().await;
        self.store.db.drop().await?;
        for service in [&self.chat, &self.trade] {
            let mut errors = lines(&service.server, &["ERROR"])?;
            errors.retain(|line| !self.wanted_errors.iter().any(|wanted| line.contains(wanted)));
            ensure!(errors.is_empty(), "{}: {errors:#?}", service.server.name());
        }
        Ok(())
    }

    /// For whoever reads why a test failed.
    async fn show_complaints(&self) {
        for service in [&self.chat, &self.trade] {
            let words = ["ERROR", "WARN", "assigned ", "revoked "];
            show(&service.server, &words, "warned, or was given partitions,");
        }
        let connect = ConnectApi::new(self.stack.connect.url()).expect("an address");
        match connect.status(&self.name).await {
            Ok(Some(status)) => println!("Kafka Connect says: {status}"),
            other => println!("Kafka Connect does not say how the connector is: {other:?}"),
        }
        show(&self.stack.connect.server, &[&self.name], "told of this world");
        match consumer_of(&self.chat).await {
            Ok(consumer) => println!("chat-service's consumer: {consumer}"),
            Err(error) => println!("chat-service does not say how its consumer is: {error}"),
        }
    }
}

/// What an instance of chat-service tells operators of its consumer.
///
/// # Errors
/// If it does not within 15 s.
pub async fn consumer_of(chat: &Service) -> reqwest::Result<Value> {
    let url = format!("{}/admin/v1/consumer", chat.admin_url());
    let request = reqwest::Client::new().get(url).timeout(STOP_BOUND);
    request.send().await?.json().await
}

/// The last lines of the server's log with one of these words.
fn show(server: &Server, words: &[&str], did: &str) {
    let lines = lines(server, words).unwrap_or_default();
    let last = lines.len().saturating_sub(60);
    println!("{} {did} in {} lines; at last:", server.name(), lines.len());
    lines[last..].iter().for_each(|line| println!("  {line}"));
}

/// Tells the service to end and waits until it has.
///
/// # Panics
/// If it does not end.
pub async fn stop(service: &Service) {
    if service.server.pid().is_some() {
        service.server.terminate().expect("a signal to the service");
    }
    let what = format!("{} ends", service.server.name());
    eventually(what, STOP_BOUND, async || {
        service.server.pid().map_or(Ok(()), Err)
    })
    .await;
}

/// Lines of the server's log with one of these words.
fn lines(server: &Server, words: &[&str]) -> Result<Vec<String>> {
    let log = std::fs::read_to_string(server.log())?;
    let found = log
        .lines()
        .filter(|line| words.iter().any(|word| line.contains(word)));
    Ok(found.map(ToOwned::to_owned).collect())
}

/// The key of all worlds, made by the first.
async fn signer(stack: &Stack) -> Result<Signer> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _first = ONE_AT_A_TIME.lock().await;
    Signer::open_or_create(stack.folder())
}

fn bases(trade: &Service, chat: &Service) -> Bases {
    Bases {
        trade: trade.url().to_owned(),
        chat: chat.url().to_owned(),
        chat_admin: chat.admin_url().to_owned(),
    }
}

fn chat_options(stack: &Stack, signer: &Signer, name: &str) -> Result<ServiceOptions> {
    Ok(ServiceOptions::chat(stack, signer)?
        .env("MONGODB_DATABASE", name)
        .env("KAFKA_GROUP_ID", name)
        .env("TOPIC_PREFIX", name)
        .env("KAFKA_PROPERTY", KAFKA_PROPERTIES.join(",")))
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
