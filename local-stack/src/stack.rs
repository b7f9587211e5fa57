//! All servers together: started in parallel as far as they do not depend on each other, ended in order.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{
    artifacts::{self, Artifacts},
    connect::{Connect, Surroundings},
    environment::Environment,
    folder::Folder,
    kafka::Kafka,
    mongo::Mongo,
    ports,
    postgres::Postgres,
    progress::Progress,
    registry::Registry,
    server::Server,
};

/// The database that the Connect worker's environment names.
pub const DATABASE: &str = "trade";

#[derive(Clone, Debug)]
pub struct StackOptions {
    /// Where data and logs are kept; without it in a temporary folder that goes with this process.
    pub data_dir: Option<PathBuf>,
    /// Remove what an earlier run left in `data_dir`.
    pub fresh: bool,
    /// A MongoDB replica set to use instead of the built-in server.
    pub mongodb_uri: Option<String>,
    pub progress: Progress,
}

#[derive(Debug)]
pub struct Stack {
    pub connect: Connect,
    pub registry: Registry,
    pub kafka: Kafka,
    pub mongo: Mongo,
    pub postgres: Postgres,
    folder: Folder,
}

impl Stack {
    pub async fn start(options: StackOptions) -> Result<Self> {
        Box::pin(Self::prepare(options).await?.start()).await
    }

    /// Everything that can be done before a server runs: checks, fetches and builds.
    pub(crate) async fn prepare(options: StackOptions) -> Result<Prepared> {
        tokio::task::spawn_blocking(move || {
            let StackOptions {
                data_dir,
                fresh,
                mongodb_uri,
                progress,
            } = options;
            // Whoever uses the folder should be known before minutes are spent on fetching.
            let folder = match data_dir {
                Some(path) => Folder::open(&path)?,
                None => Folder::temporary()?,
            };
            let environment = Environment::read()?.with_mongodb(mongodb_uri);
            let artifacts = artifacts::ensure_in(&environment, &progress)?;
            folder.wait_for_earlier_run()?;
            if fresh {
                folder.clear()?;
            }
            folder.check_space()?;
            Ok(Prepared {
                folder,
                artifacts,
                mongodb_uri: environment.mongodb_uri,
                progress,
            })
        })
        .await?
    }

    /// The folder of its data, logs and keys.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every process of ours, those first that use the others.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        let Self {
            connect,
            registry,
            kafka,
            mongo,
            postgres,
            folder: _,
        } = self;
        [&connect.server, &registry.server, &kafka.server, &postgres.server]
            .into_iter()
            .chain(&mongo.server)
    }

    pub(crate) fn log(&self, name: &str) -> Result<PathBuf> {
        self.folder.log(name)
    }

    /// Whether its data is wanted again.
    pub(crate) fn is_lasting(&self) -> bool {
        self.folder.is_lasting()
    }

    /// Ends the servers, each after those that use it.
    pub async fn end(&self) -> Result<()> {
        self.connect.server.end().await?;
        let others = self.servers().skip(1).map(Server::end);
        futures_util::future::try_join_all(others).await?;
        Ok(())
    }
}

/// A stack that is ready to be started.
#[derive(Debug)]
pub(crate) struct Prepared {
    folder: Folder,
    artifacts: Artifacts,
    mongodb_uri: Option<String>,
    progress: Progress,
}

impl Prepared {
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn start(self) -> Result<Stack> {
        let Self {
            folder,
            artifacts,
            mongodb_uri,
            progress,
        } = self;
        let (artifacts, progress) = (&artifacts, &progress);
        let postgres_port = ports::free()?;
        let kafka_port = ports::free()?;
        let controller_port = ports::free()?;
        let registry_port = ports::free()?;
        let connect_port = ports::free()?;
        let surroundings = Surroundings {
            group: "connect",
            plugins: artifacts.plugins.clone(),
            bootstrap: format!("127.0.0.1:{kafka_port}"),
            registry_url: format!("http://127.0.0.1:{registry_port}"),
            postgres_port,
            database: DATABASE.to_owned(),
        };
        let postgres = Postgres::start(&folder, &artifacts.postgres, postgres_port);
        let mongo = async {
            match (&mongodb_uri, &artifacts.mongo_server) {
                (None, Some(program)) => Mongo::start(&folder, program).await,
                (uri, _) => Mongo::existing(uri.as_deref().unwrap_or_default()).await,
            }
        };
        let registry = Registry::start(&folder, artifacts, registry_port);
        let kafka = Kafka::start(&folder, artifacts, kafka_port, controller_port);
        let connect = Connect::start(&folder, artifacts, connect_port, &surroundings);
        let (postgres, mongo, registry, (kafka, connect)) = tokio::try_join!(
            shown(progress, "PostgreSQL", postgres),
            shown(progress, "MongoDB", mongo),
            shown(progress, "the schema registry", registry),
            async {
                let kafka = shown(progress, "Kafka", kafka).await?;
                Ok((kafka, shown(progress, "Kafka Connect", connect).await?))
            }
        )?;
        Ok(Stack {
            connect,
            registry,
            kafka,
            mongo,
            postgres,
            folder,
        })
    }
}

async fn shown<T>(progress: &Progress, name: &str, start: impl Future<Output = Result<T>>) -> Result<T> {
    let step = progress.step(format!("Starting {name}"));
    let started = start.await?;
    step.done();
    Ok(started)
}
