//! The chat-service that is measured: a process of its own on a MongoDB, with members who have rooms.
//! Kafka and the registry are away, which costs streams and requests nothing.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use chat_service::{
    cdc::{
        change_event::{Arrival, Change, ChangeEvent, Event, Position, Post},
        close::carry_out,
        plan::plan,
    },
    store::{Store, now},
};
use e2e::eventually::eventually;
use local_stack::{
    client::{Bases, Client},
    progress::Progress,
    services, testing,
    tokens::{AUDIENCE, ISSUER, Signer},
};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

/// Nothing listens there.
const REFUSED: &str = "127.0.0.1:9";
/// Members 1 to this have a room each, about a post of [`SELLER`].
pub const BUYERS: i64 = 50;
const SELLER: i64 = 1_000_000;
const MESSAGES: usize = 30;
/// Members are told nothing for so long before memory is read.
const SETTLED: Duration = Duration::from_secs(3);
const BOUND: Duration = Duration::from_secs(30);
const MONTH: Duration = Duration::from_hours(24 * 30);

pub struct Service {
    process: Child,
    pub address: String,
    pub pool: u32,
    admin: String,
    /// Of the buyers, in their order.
    pub rooms: Vec<String>,
    anybody: Client,
    signer: Signer,
    _folder: tempfile::TempDir,
}

impl Service {
    /// With room for `streams`; each of its MongoDB clients may open `pool` connections.
    pub async fn start(pool: u32, streams: usize) -> Result<Self> {
        let program = services::program("chat-service", &Progress::detect()).await?;
        let folder = tempfile::tempdir()?;
        let signer = Signer::open_or_create(folder.path())?;
        let database = format!("streams_{}", std::process::id());
        let mongodb = testing::mongo().await.uri();
        let store = Store::new(mongodb, &database).await?;
        store.create_indexes(MONTH, MONTH).await?;
        let (address, admin) = (free_address().await?, free_address().await?);
        let separator = if mongodb.contains('?') { '&' } else { '?' };
        let process = Command::new(program)
            .env("LISTEN", &address)
            .env("ADMIN_LISTEN", &admin)
            .env("MONGODB_URI", format!("{mongodb}{separator}maxPoolSize={pool}"))
            .env("MONGODB_DATABASE", &database)
            .env("KAFKA_BOOTSTRAP_SERVERS", REFUSED)
            .env("SCHEMA_REGISTRY_URL", format!("http://{REFUSED}"))
            .env("JWT_JWKS", signer.jwks_path())
            .env("JWT_ISSUER", ISSUER)
            .env("JWT_AUDIENCE", AUDIENCE)
            .env("STREAMS_PER_INSTANCE", streams.to_string())
            .envs(["SEND_RATE", "ROOM_RATE", "STREAM_RATE"].map(|rate| (rate, "0")))
            .env("LOG", "error")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("chat-service could not be started")?;
        let bases = Bases {
            trade: String::new(),
            chat: format!("http://{address}"),
            chat_admin: format!("http://{admin}"),
        };
        let mut service = Self {
            process,
            address,
            pool,
            admin: format!("http://{admin}"),
            rooms: Vec::new(),
            anybody: Client::new(bases, "")?,
            signer,
            _folder: folder,
        };
        let alive = format!("{}/livez", service.admin);
        eventually("chat-service is alive", BOUND, async || {
            reqwest::get(&alive).await
        })
        .await;
        service.talk(&store).await?;
        Ok(service)
    }

    /// Every buyer opens a room, and both talk.
    async fn talk(&mut self, store: &Store) -> Result<()> {
        let posts = (1..=BUYERS).map(|id| {
            Event::Post(ChangeEvent {
                trade_post_id: id,
                position: Position {
                    partition: 0,
                    offset: id,
                },
                change: Change::Upsert {
                    lsn: id,
                    arrival: Some(Arrival::Created),
                    post: Post {
                        seller_id: SELLER,
                        title: "자전거 팔아요".into(),
                        status: "on_sale".into(),
                    },
                },
            })
        });
        for step in plan(posts) {
            carry_out(store, &step, now(), Duration::ZERO).await?;
        }
        for buyer in 1..=BUYERS {
            let room = self.member(buyer)?.open_room(buyer).await?.id;
            for message in 0..MESSAGES {
                let sender = if message % 2 == 0 { buyer } else { SELLER };
                let body = "안녕하세요, 아직 판매 중인가요?";
                self.member(sender)?
                    .send(&room, &format!("{message}"), body)
                    .await?;
            }
            self.rooms.push(room);
        }
        Ok(())
    }

    pub fn token(&self, member: i64) -> Result<String> {
        self.signer.token(member, Duration::from_hours(2))
    }

    pub fn member(&self, member: i64) -> Result<Client> {
        Ok(self.anybody.with_token(self.token(member)?))
    }

    pub fn seller(&self) -> Result<Client> {
        self.member(SELLER)
    }

    /// Resident memory in bytes, once it does not change any more.
    pub async fn resident(&self) -> Result<usize> {
        tokio::time::sleep(SETTLED).await;
        let id = self.process.id().context("chat-service has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))
            .context("resident memory is read from /proc, which only Linux has")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse::<usize>()? * 1024)
    }

    /// The value of a metric, by its name with labels; 0 if it has none yet.
    pub async fn metric(&self, name: &str) -> Result<i64> {
        let metrics = reqwest::get(format!("{}/metrics", self.admin))
            .await?
            .text()
            .await?;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.map_or(Ok(0), str::parse)?)
    }

    pub async fn stop(mut self) -> Result<()> {
        self.process.kill().await?;
        let ended = timeout(BOUND, self.process.wait()).await;
        ensure!(ended.is_ok(), "chat-service does not end");
        Ok(())
    }
}

async fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?.to_string())
}
