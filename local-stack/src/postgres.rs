//! PostgreSQL, set up for logical decoding. Databases belong to the role `trade_service`; `postgres` is
//! the superuser. Nobody needs a password: it listens on the loopback address only.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    account::Account,
    folder::Folder,
    process::Launch,
    server::{Server, probe},
};

const OWNER: &str = "trade_service";
const SUPERUSER: &str = "postgres";
/// Exists in every cluster.
const MAINTENANCE_DATABASE: &str = "postgres";
const READY_BOUND: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct Postgres {
    pub server: Server,
    port: u16,
}

impl Postgres {
    pub(crate) async fn start(folder: &Folder, programs: &Path, port: u16) -> Result<Self> {
        let account = Account::instead_of_root();
        let data = folder.data_of("postgres", account)?;
        let log = folder.log("postgres")?;
        let launch = |program: &str| Launch {
            account,
            lasting: folder.is_lasting(),
            stop_signal: Signal::INT,
            // Killed, it would leave shared memory behind.
            quick_signal: Signal::QUIT,
            ..Launch::new("PostgreSQL", programs.join("bin").join(program), &data, &log)
        };

        let cluster = data.join("cluster");
        if !cluster.exists() {
            let initdb = launch("initdb").args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                // Trigrams of Korean text need a locale that knows its letters.
                if cfg!(target_os = "macos") {
                    "--locale=en_US.UTF-8"
                } else {
                    "--locale=C.UTF-8"
                },
                "--no-sync",
                "--pgdata=cluster.unfinished",
            ]);
            let (unfinished, place) = (data.join("cluster.unfinished"), cluster.clone());
            tokio::task::spawn_blocking(move || {
                // Of a run that was cut short.
                let _ = fs::remove_dir_all(&unfinished);
                initdb.run(|| {})?;
                fs::rename(&unfinished, &place).context("PostgreSQL's new data folder could not be moved")
            })
            .await??;
        }
        // After a hard end of the machine its process id may be another process's, and PostgreSQL would
        // refuse to start. No PostgreSQL of this folder can be alive: we hold the folder.
        let _ = fs::remove_file(cluster.join("postmaster.pid"));

        let mut settings = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {port}"),
            // No socket file: its path may be longer than systems allow.
            "unix_socket_directories = ''".to_owned(),
            "wal_level = logical".to_owned(),
            "max_replication_slots = 100".to_owned(),
            "max_wal_senders = 100".to_owned(),
            "max_connections = 300".to_owned(),
            "shared_buffers = 64MB".to_owned(),
            // A slot that nobody reads must not fill the disk.
            "max_slot_wal_keep_size = 2GB".to_owned(),
        ];
        if !folder.is_lasting() {
            // What a process has written outlives it; only the end of the machine would lose it.
            settings.push("fsync = off".to_owned());
        }
        configure(&cluster, &settings, account)?;
        let server = launch("postgres").args(["-D", "cluster"]);
        let options = options(port, SUPERUSER, MAINTENANCE_DATABASE);
        let answers = probe(move || {
            let options = options.clone();
            async move {
                let mut connection = PgConnection::connect_with(&options).await?;
                sqlx::query("SELECT 1").execute(&mut connection).await?;
                Ok(connection.close().await?)
            }
        });
        let server = Server::start(server, [port], READY_BOUND, answers).await?;
        let postgres = Self { server, port };
        postgres.create_owner().await?;
        Ok(postgres)
    }

    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database for its owner, the role `trade_service`.
    pub fn connection_url(&self, database: &str) -> String {
        format!("postgres://{OWNER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of a database for the superuser.
    pub fn superuser_url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection of the superuser.
    pub async fn superuser(&self, database: &str) -> Result<PgConnection> {
        PgConnection::connect_with(&options(self.port, SUPERUSER, database))
            .await
            .with_context(|| format!("no connection to the database {database}"))
    }

    /// Makes the database if there is none of that name; answers the URL for its owner.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        // The name becomes part of a statement, of URLs and of the connector's configuration.
        ensure!(
            !name.is_empty()
                && name.len() <= 63
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "a database name has 1 to 63 of a-z, 0-9 and _, which {name:?} has not"
        );
        let mut connection = self.superuser(MAINTENANCE_DATABASE).await?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name} OWNER {OWNER}")))
                .execute(&mut connection)
                .await
                .with_context(|| format!("the database {name} could not be made"))?;
        }
        connection.close().await?;
        Ok(self.connection_url(name))
    }

    async fn create_owner(&self) -> Result<()> {
        let mut connection = self.superuser(MAINTENANCE_DATABASE).await?;
        sqlx::raw_sql(AssertSqlSafe(format!(
            "DO $$ BEGIN CREATE ROLE {OWNER} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )))
        .execute(&mut connection)
        .await?;
        Ok(connection.close().await?)
    }
}

/// In a file, and not as arguments of the program, so that `ALTER SYSTEM` overrides them as anywhere else.
fn configure(cluster: &Path, settings: &[String], account: Option<Account>) -> Result<()> {
    const FILE: &str = "local-stack.conf";
    let place = cluster.join(FILE);
    fs::write(&place, settings.join("\n") + "\n")?;
    if let Some(account) = account {
        account.own(&place)?;
    }
    let main = cluster.join("postgresql.conf");
    let text = fs::read_to_string(&main)?;
    if !text.contains(FILE) {
        fs::write(&main, format!("{text}\ninclude = '{FILE}'\n"))?;
    }
    Ok(())
}

fn options(port: u16, role: &str, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(role)
        .database(database)
        .disable_statement_logging()
}
