//! The schema registry (Apicurio), which also speaks the Confluent API. Its storage is a file database in
//! the stack's folder: if it forgot schemas, their ids would be given out again and old records decoded
//! with the wrong schema.

use std::time::Duration;

use anyhow::Result;

use crate::{
    artifacts::Artifacts,
    folder::Folder,
    jvm,
    server::{Server, probe_http},
};

const HEAP_MEBIBYTES: u32 = 192;
const READY_BOUND: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub struct Registry {
    pub server: Server,
    url: String,
}

impl Registry {
    pub(crate) async fn start(folder: &Folder, artifacts: &Artifacts, port: u16) -> Result<Self> {
        let data = folder.data("registry")?;
        // FILE_LOCK: a lock of the system ends with the process; H2's own must be waited out after a kill.
        // WRITE_DELAY: else an id that was given out half a second before a kill is given out again.
        let database = format!(
            "jdbc:h2:file:{};FILE_LOCK=FS;WRITE_DELAY=0;DB_CLOSE_ON_EXIT=FALSE",
            data.join("registry").display()
        );
        let launch = jvm::launch(
            "the schema registry",
            artifacts,
            folder,
            &data,
            "registry",
            HEAP_MEBIBYTES,
        )?
        .args([
            "-jar".into(),
            artifacts.registry.join("quarkus-run.jar").into_os_string(),
        ])
        .env("QUARKUS_HTTP_HOST", "127.0.0.1")
        .env("QUARKUS_HTTP_PORT", port.to_string())
        // Its second listener is on all addresses and a fixed port if not told otherwise.
        .env("QUARKUS_MANAGEMENT_HOST", "127.0.0.1")
        .env("QUARKUS_MANAGEMENT_PORT", "0")
        .env("APICURIO_STORAGE_KIND", "sql")
        .env("APICURIO_STORAGE_SQL_KIND", "h2")
        .env("APICURIO_DATASOURCE_URL", database);
        let url = format!("http://127.0.0.1:{port}");
        let answers = probe_http(format!("{url}/apis/ccompat/v7/subjects"))?;
        let server = Server::start(launch, [port], READY_BOUND, answers).await?;
        Ok(Self { server, url })
    }

    /// Its base address, as the connector's configuration wants it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The base of its Confluent-compatible API, as consumers want it.
    pub fn confluent_url(&self) -> String {
        format!("{}/apis/ccompat/v7", self.url)
    }
}
