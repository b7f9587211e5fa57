//! A capture that misses deletes, and what is needed to find them.

use std::time::Duration;

use connectors::{
    ConnectApi,
    reconcile::{self, ChatAdmin, Database, Reconciling},
    schemas::Table,
};
use local_stack::capture::Capture;
use reqwest::Method;

use crate::{eventually::eventually, world::World};

const BOUND: Duration = Duration::from_mins(1);

/// Stops the connector and drops its slot: what changes from now on is not captured.
///
/// # Panics
/// If Connect or PostgreSQL does not do it.
pub async fn lose_slot(world: &World) {
    ask_connect(world, Method::PUT, "stop").await;
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
    // The task that reads it ends after Connect's answer.
    eventually("the slot is dropped", BOUND, async || {
        let superuser = world.stack.postgres.superuser(&world.name).await;
        let dropped = sqlx::query(drop).bind(&world.name);
        dropped.execute(&mut superuser.expect("a connection")).await
    })
    .await;
}

/// What an operator does who does not want the whole table to be read again: the connector forgets where it was, and
/// begins with what comes next. Without that, it refuses to go on.
///
/// # Panics
/// If the connector does not run then.
pub async fn go_on_without_snapshot(world: &mut World, mut capture: Capture) {
    ask_connect(world, Method::DELETE, "offsets").await;
    let settings = &mut capture.settings;
    settings.insert("snapshot.mode".to_owned(), "no_data".to_owned());
    let connect = ConnectApi::new(world.stack.connect.url()).expect("an address");
    let config = capture.config().expect("a configuration");
    connect
        .put_config(&world.name, &config)
        .await
        .expect("it is taken");
    ask_connect(world, Method::PUT, "resume").await;
    world.capture(capture).await;
}

/// Asks Kafka Connect for something about the world's connector, again while it is being balanced.
///
/// # Panics
/// If it refuses.
pub async fn ask_connect(world: &World, method: Method, what: &str) {
    let url = format!("{}/connectors/{}/{what}", world.stack.connect.url(), world.name);
    let http = reqwest::Client::new();
    eventually(format!("Connect: {what}"), BOUND, async || {
        let answer = http.request(method.clone(), &url).send().await;
        let answer = answer.expect("Connect answers");
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(answer.text().await)
        }
    })
    .await;
}

/// The servers that a reconciliation needs, as its command knows them.
#[derive(Debug)]
pub struct Servers {
    pub connect: ConnectApi,
    pub chat: ChatAdmin,
    pub database: Database,
    connector: String,
}

impl Servers {
    /// # Panics
    /// If an address is none.
    pub fn of(world: &World) -> Self {
        let database = world.stack.postgres.connection_url(&world.name);
        Self {
            connect: ConnectApi::new(world.stack.connect.url()).expect("an address"),
            chat: ChatAdmin::new(world.chat.admin_url()).expect("an address"),
            database: Database::new(&database).expect("an address"),
            connector: world.name.clone(),
        }
    }

    /// Begins a reconciliation of the table.
    ///
    /// # Panics
    /// If it cannot be begun.
    pub async fn begin(&self, table: Table, timeout: Duration) -> Reconciling<'_> {
        let Self {
            connect,
            chat,
            database,
            connector,
        } = self;
        let settings = reconcile::check(connect, database, connector).await;
        let settings = settings.expect("a connector that can be asked");
        let start = reconcile::start(connect, database, connector, timeout).await;
        let start = start.expect("all is over that has to be");
        let begun = Reconciling::begin(start, connect, chat, database, connector, &settings, table).await;
        begun.expect("it is begun")
    }
}
