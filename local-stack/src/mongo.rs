//! MongoDB: the built-in compatible server, or a replica set that the caller names.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use mongodb::{Client, bson::doc, options::ClientOptions};

use crate::{
    folder::Folder,
    ports,
    process::Launch,
    server::{Server, probe},
};

const READY_BOUND: Duration = Duration::from_mins(1);
const ANSWER_BOUND: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Mongo {
    /// None if the caller named another MongoDB: it is not ours to kill.
    pub server: Option<Server>,
    uri: String,
}

impl Mongo {
    pub(crate) async fn start(folder: &Folder, program: &Path) -> Result<Self> {
        let data = folder.data("mongodb")?;
        let port = ports::free()?;
        let uri = format!("mongodb://127.0.0.1:{port}/?replicaSet=secantus");
        let launch = Launch {
            lasting: folder.is_lasting(),
            ..Launch::new(
                "the MongoDB-compatible server",
                program,
                &data,
                &folder.log("mongodb")?,
            )
        }
        .args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--storage-path",
            "storage",
        ])
        .args(["--cache-size", "256M", "--log-level", "WARNING"])
        // An acknowledged write must survive kill -9, as with a real replica set.
        .arg("--sync-on-commit");
        let address = uri.clone();
        let answers = probe(move || {
            let uri = address.clone();
            async move { ping(&uri).await }
        });
        let server = Server::start(launch, [port], READY_BOUND, answers).await?;
        Ok(Self {
            server: Some(server),
            uri,
        })
    }

    /// Takes a MongoDB that runs already.
    pub(crate) async fn existing(uri: &str) -> Result<Self> {
        ping(uri).await.context(
            "the MongoDB that MONGODB_URI names cannot be used; start it, or unset the variable to get one",
        )?;
        Ok(Self {
            server: None,
            uri: uri.to_owned(),
        })
    }

    pub fn uri(&self) -> &str {
        &self.uri
    }
}

/// Succeeds once the server takes writes.
async fn ping(uri: &str) -> Result<()> {
    let mut options = ClientOptions::parse(uri).await?;
    options.server_selection_timeout = Some(ANSWER_BOUND);
    options.connect_timeout = Some(ANSWER_BOUND);
    let client = Client::with_options(options)?;
    let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
    ensure!(
        hello.get_bool("isWritablePrimary").unwrap_or(false),
        "it is not a primary that takes writes"
    );
    ensure!(
        hello.contains_key("setName"),
        "it is not a replica set, which transactions and change streams need"
    );
    client.shutdown().await;
    Ok(())
}
