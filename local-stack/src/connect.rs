//! Kafka Connect, a distributed worker with Debezium and the Avro converter. Connectors name hosts and
//! secrets as `${env:…}`; the worker fills them in from its own environment, so a connector that was
//! applied in an earlier run works on although all ports are new.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Result;

use crate::{
    artifacts::Artifacts,
    folder::Folder,
    jvm,
    server::{Server, probe_http},
};

const HEAP_MEBIBYTES: u32 = 512;
const READY_BOUND: Duration = Duration::from_mins(2);

/// The role that Debezium logs in with. PostgreSQL asks nobody for a password here.
pub(crate) const CAPTURE_ROLE: &str = "debezium";
const CAPTURE_PASSWORD: &str = "local";

#[derive(Debug)]
pub struct Connect {
    pub server: Server,
    url: String,
}

/// Where the worker finds the others, which may still be starting.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Of its group, and of all that is its own.
    pub(crate) group: &'static str,
    /// A folder with a folder for each.
    pub(crate) plugins: PathBuf,
    pub(crate) bootstrap: String,
    pub(crate) registry_url: String,
    pub(crate) postgres_port: u16,
    pub(crate) database: String,
}

impl Connect {
    pub(crate) async fn start(
        folder: &Folder,
        artifacts: &Artifacts,
        port: u16,
        surroundings: &Surroundings,
    ) -> Result<Self> {
        let group = surroundings.group;
        let data = folder.data(group)?;
        fs::write(data.join("connect.properties"), settings(port, surroundings))?;
        let launch = jvm::launch("Kafka Connect", artifacts, folder, &data, group, HEAP_MEBIBYTES)?
            .args(jvm::kafka_class(
                artifacts,
                "org.apache.kafka.connect.cli.ConnectDistributed",
                &["connect.properties"],
            ))
            .env("TRADE_DB_HOST", "127.0.0.1")
            .env("TRADE_DB_PORT", surroundings.postgres_port.to_string())
            .env("TRADE_DB_NAME", &surroundings.database)
            .env("TRADE_DB_USER", CAPTURE_ROLE)
            .env("TRADE_DB_PASSWORD", CAPTURE_PASSWORD)
            .env("SCHEMA_REGISTRY_URL", &surroundings.registry_url);
        let url = format!("http://127.0.0.1:{port}");
        // Answered by the thread that starts connectors, so it runs once this answers.
        let answers = probe_http(format!("{url}/connectors"))?;
        let server = Server::start(launch, [port], READY_BOUND, answers).await?;
        Ok(Self { server, url })
    }

    /// The base of its REST API.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn settings(port: u16, surroundings: &Surroundings) -> String {
    let Surroundings {
        group,
        plugins,
        bootstrap,
        ..
    } = surroundings;
    let provider = "org.apache.kafka.common.config.provider.EnvVarConfigProvider";
    let converter = "org.apache.kafka.connect.json.JsonConverter";
    let mut settings = vec![
        ("bootstrap.servers", bootstrap.clone()),
        ("group.id", (*group).to_owned()),
        ("listeners", format!("http://127.0.0.1:{port}")),
        ("rest.advertised.host.name", "127.0.0.1".to_owned()),
        ("plugin.path", plugins.display().to_string()),
        // Trust the manifests that were made when the plug-ins were fetched.
        ("plugin.discovery", "service_load".to_owned()),
        // Connectors bring their own converters.
        ("key.converter", converter.to_owned()),
        ("value.converter", converter.to_owned()),
        ("config.storage.topic", format!("{group}-configs")),
        ("offset.storage.topic", format!("{group}-offsets")),
        ("status.storage.topic", format!("{group}-status")),
        ("offset.flush.interval.ms", "1000".to_owned()),
        // There is one worker: nobody will come back for the connectors of one that left.
        ("scheduled.rebalance.max.delay.ms", "0".to_owned()),
        // For so long after a kill a new worker waits for the old one to leave.
        ("session.timeout.ms", "6000".to_owned()),
        ("heartbeat.interval.ms", "2000".to_owned()),
        ("config.providers", "env".to_owned()),
        ("config.providers.env.class", provider.to_owned()),
        (
            "config.providers.env.param.allowlist.pattern",
            "^(TRADE_DB|SCHEMA_REGISTRY)_.*".to_owned(),
        ),
    ];
    for one in [
        "config.storage.replication.factor",
        "offset.storage.replication.factor",
        "offset.storage.partitions",
        "status.storage.replication.factor",
        "status.storage.partitions",
    ] {
        settings.push((one, "1".to_owned()));
    }
    jvm::properties(&settings)
}
