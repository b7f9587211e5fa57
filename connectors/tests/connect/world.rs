//! What one test owns: a database with trade-service's tables and the role for Debezium, and the shipped
//! configuration pointed at it.

use std::{fmt::Debug, fs, path::PathBuf, time::Duration};

use connectors::{Config, ConnectApi, ConnectError, Outcome, Patience, apply, config_file};
use local_stack::{Stack, testing};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, sleep};

const ROLE: &str = include_str!("../../postgres.sql");

/// trade-service's migrations, in their order.
fn migrations() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../trade-service/migrations");
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect()
}

pub struct World {
    pub stack: &'static Stack,
    pub api: ConnectApi,
    /// Of the connector, and of all else that is its own.
    pub name: String,
    pub config: Config,
    pub database: PgConnection,
}

impl World {
    /// `name` has to be unique among the tests, of letters, digits and `_`.
    pub async fn new(name: &str) -> Self {
        let stack = testing::stack().await;
        stack.postgres.create_database(name).await.unwrap();
        let mut database = stack.postgres.superuser(name).await.unwrap();
        for sql in migrations() {
            let sql = sqlx::raw_sql(AssertSqlSafe(sql));
            sql.execute(&mut database).await.unwrap();
        }
        sqlx::raw_sql(ROLE).execute(&mut database).await.unwrap();
        Self {
            stack,
            api: ConnectApi::new(stack.connect.url()).unwrap(),
            name: name.to_owned(),
            config: shipped_for(name),
            database,
        }
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.config.insert(key.to_owned(), value.to_owned());
    }

    pub async fn apply(&self) -> Result<Outcome, ConnectError> {
        apply(&self.api, &self.name, &self.config, Duration::from_mins(1)).await
    }

    /// Asks Kafka Connect, which does not answer while it takes up a change, be it another test's.
    pub async fn ask<T, F>(&self, request: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, ConnectError>>,
    {
        let patience = Patience::new(Duration::from_secs(30));
        patience.ask(self.api.url(), request).await.unwrap()
    }

    /// As Kafka Connect has it.
    pub async fn config_of(&self, name: &str) -> Option<Config> {
        self.ask(|| self.api.config(name)).await
    }

    /// What the connector has given its tasks.
    pub async fn task_configs(&self) -> Vec<Config> {
        self.ask(|| self.api.task_configs(&self.name)).await
    }

    /// SQL as the superuser in the test's database.
    pub async fn execute(&mut self, sql: &str) {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        statement.execute(&mut self.database).await.unwrap();
    }

    /// How far the connector has confirmed its slot, in bytes of the write-ahead log; `None` without slot.
    pub async fn confirmed(&mut self) -> Option<i64> {
        sqlx::query_scalar(
            "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = $1",
        )
        .bind(&self.name)
        .fetch_optional(&mut self.database)
        .await
        .unwrap()
    }

    /// The configuration as a file of the connector's name, for the command.
    pub fn file(&self, folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join(format!("{}.json", self.name));
        fs::write(&path, serde_json::to_string_pretty(&self.config).unwrap()).unwrap();
        path
    }

    /// Stops capturing, so that the connector does not busy the worker for the rest of the run.
    pub async fn end(self) {
        self.api.delete(&self.name).await.unwrap();
        self.database.close().await.unwrap();
    }
}

fn shipped_for(name: &str) -> Config {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("trade-posts.json");
    let mut files = config_file::read_all(&[path]).unwrap();
    let mut config = files.remove(0).config;
    for key in ["database.dbname", "topic.prefix", "slot.name"] {
        config.insert(key.to_owned(), name.to_owned());
    }
    config
}

/// Looks until `seen` answers `Ok`; what it answers instead is shown when the time is over.
pub async fn eventually<T, E: Debug>(what: &str, mut seen: impl AsyncFnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match seen().await {
            Ok(value) => return value,
            Err(last) => assert!(start.elapsed() < Duration::from_mins(1), "never {what}: {last:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}
