//! Servers for tests: the first test of a process that asks for one starts it, all others share it, and
//! it ends with the process. Give every test names of its own (databases, topics, groups).
//!
//! Tests bring an async runtime each. What is shared here belongs to none of them: plain processes and
//! addresses, no connection and no task.
//!
//! A server that cannot be started fails every test that asks for it, with the same message.

use std::sync::OnceLock;

use anyhow::Result;
use tokio::sync::OnceCell;

use crate::{
    artifacts, environment::Environment, folder::Folder, ports, postgres::Postgres, progress::Progress,
};
#[cfg(feature = "full")]
use crate::{
    connect::{Connect, Surroundings},
    mongo::Mongo,
    stack::{Stack, StackOptions},
};

/// A server, or why there is none: the next test should not wait for the same failure again.
type Shared<T> = OnceCell<Result<T, String>>;

/// PostgreSQL alone.
pub async fn postgres() -> &'static Postgres {
    static POSTGRES: Shared<Postgres> = OnceCell::const_new();
    Box::pin(shared(&POSTGRES, "PostgreSQL", async {
        let programs =
            blocking(|| artifacts::postgres(&Environment::read()?, &Progress::for_tests())).await?;
        Postgres::start(folder()?, &programs, ports::free()?).await
    }))
    .await
}

/// MongoDB alone: the one that `MONGODB_URI` names, else the built-in server.
#[cfg(feature = "full")]
pub async fn mongo() -> &'static Mongo {
    static MONGO: Shared<Mongo> = OnceCell::const_new();
    Box::pin(shared(&MONGO, "MongoDB", async {
        let environment = Environment::read()?;
        if let Some(uri) = &environment.mongodb_uri {
            return Mongo::existing(uri).await;
        }
        let program = blocking(move || artifacts::mongo_server(&environment, &Progress::for_tests())).await?;
        Mongo::start(folder()?, &program).await
    }))
    .await
}

/// All servers. Databases, topics and groups of their own keep tests apart.
#[cfg(feature = "full")]
pub async fn stack() -> &'static Stack {
    static STACK: Shared<Stack> = OnceCell::const_new();
    Box::pin(shared(&STACK, "the servers", async {
        Box::pin(Stack::start(StackOptions {
            data_dir: None,
            fresh: false,
            mongodb_uri: Environment::read()?.mongodb_uri,
            progress: Progress::for_tests(),
        }))
        .await
    }))
    .await
}

/// A worker of Kafka Connect beside the stack's, in a group of its own and without any plugin. It is the caller's.
#[cfg(feature = "full")]
pub async fn connect_without_plugins(stack: &Stack) -> Result<Connect> {
    let environment = Environment::read()?;
    let artifacts = blocking(move || artifacts::ensure_in(&environment, &Progress::for_tests())).await?;
    let folder = folder()?;
    let surroundings = Surroundings {
        group: "bare-connect",
        plugins: folder.data("no-plugins")?,
        bootstrap: stack.kafka.bootstrap(),
        registry_url: stack.registry.url().to_owned(),
        postgres_port: stack.postgres.port(),
        database: String::new(),
    };
    Connect::start(folder, &artifacts, ports::free()?, &surroundings).await
}

#[expect(clippy::panic, reason = "only tests call this, and it is how they fail")]
async fn shared<T>(
    cell: &'static Shared<T>,
    name: &str,
    start: impl Future<Output = Result<T>>,
) -> &'static T {
    let started = cell
        .get_or_init(|| async { start.await.map_err(|error| format!("{error:#}")) })
        .await;
    match started {
        Ok(server) => server,
        Err(reason) => panic!("{name} could not be started for the tests: {reason}"),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// One temporary folder for all servers of this process.
fn folder() -> Result<&'static Folder> {
    static FOLDER: OnceLock<Result<Folder, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Folder::temporary().and_then(|folder| folder.check_space().map(|()| folder));
        folder.map_err(|error| format!("{error:#}"))
    });
    folder.as_ref().map_err(|reason| anyhow::anyhow!("{reason}"))
}
