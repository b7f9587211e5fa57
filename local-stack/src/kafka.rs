//! Kafka: one node that is broker and controller at once.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    artifacts::Artifacts,
    folder::Folder,
    jvm,
    server::{Server, probe},
};

/// Any id will do: clusters of different stacks never meet.
const CLUSTER_ID: &str = "bG9jYWwtc3RhY2sta2Fmaw";
const HEAP_MEBIBYTES: u32 = 256;
const READY_BOUND: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub struct Kafka {
    pub server: Server,
    port: u16,
}

impl Kafka {
    pub(crate) async fn start(
        folder: &Folder,
        artifacts: &Artifacts,
        port: u16,
        controller_port: u16,
    ) -> Result<Self> {
        let data = folder.data("kafka")?;
        fs::write(data.join("server.properties"), settings(port, controller_port))?;
        let launch = |class, arguments: &[&str]| {
            jvm::launch("Kafka", artifacts, folder, &data, "kafka", HEAP_MEBIBYTES)
                .map(|launch| launch.args(jvm::kafka_class(artifacts, class, arguments)))
        };
        if !data.join("log/meta.properties").exists() {
            let format = launch(
                "kafka.tools.StorageTool",
                &[
                    "format",
                    "-t",
                    CLUSTER_ID,
                    "-c",
                    "server.properties",
                    "--ignore-formatted",
                ],
            )?;
            tokio::task::spawn_blocking(move || format.run(|| {})).await??;
        }
        let answers = probe(move || has_brokers(port));
        let broker = launch("kafka.Kafka", &["server.properties"])?;
        let server = Server::start(broker, [port, controller_port], READY_BOUND, answers).await?;
        Ok(Self { server, port })
    }

    /// Address for clients (`bootstrap.servers`).
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn settings(port: u16, controller_port: u16) -> String {
    let mut settings = vec![
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", "1".to_owned()),
        (
            "controller.quorum.voters",
            format!("1@127.0.0.1:{controller_port}"),
        ),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
        (
            "listeners",
            format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"),
        ),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
        ("log.dirs", "log".to_owned()),
        // Topics come from whoever writes to them, with settings, not from a reader's first question.
        ("auto.create.topics.enable", "false".to_owned()),
        // For so long after a kill a new broker is taken for a second one with the id of the old.
        ("broker.session.timeout.ms", "3000".to_owned()),
        ("broker.heartbeat.interval.ms", "500".to_owned()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
    ];
    // There is one node, and few groups.
    for one in [
        "offsets.topic.replication.factor",
        "offsets.topic.num.partitions",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "transaction.state.log.num.partitions",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
        "share.coordinator.state.topic.num.partitions",
    ] {
        settings.push((one, "1".to_owned()));
    }
    jvm::properties(&settings)
}

/// Asks for the cluster's metadata, as every client does first, and succeeds once a broker is in it:
/// the port is open before that.
async fn has_brokers(port: u16) -> Result<()> {
    /// Metadata, version 4, without topics and without making any.
    const REQUEST: [u8; 19] = [
        0, 0, 0, 15, // length of what follows
        0, 3, 0, 4, // which request, which version
        0, 0, 0, 1, // number that the answer repeats
        0xff, 0xff, // no client id
        0, 0, 0, 0, // an empty list of topics
        0, // do not create topics
    ];
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(&REQUEST).await?;
    let length = usize::try_from(connection.read_u32().await?)?;
    ensure!(
        (12..1 << 20).contains(&length),
        "an answer of {length} bytes is not Kafka's"
    );
    ensure!(
        connection.read_u32().await? == 1,
        "the answer is to another question"
    );
    let _throttle = connection.read_u32().await?;
    ensure!(connection.read_u32().await? > 0, "no broker has registered yet");
    Ok(())
}
