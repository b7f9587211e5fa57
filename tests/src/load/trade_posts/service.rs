//! The trade-service that is measured: a process of its own, with a database of its own.

use std::{path::Path, process::Stdio, time::Duration};

use local_stack::{
    progress::Progress,
    services, testing,
    tokens::{AUDIENCE, ISSUER, Signer},
};
use reqwest::Client;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

use crate::eventually::eventually;

const BOUND: Duration = Duration::from_secs(30);
/// The service's own default; a loop that is compared with it has as many.
pub(super) const CONNECTIONS: u32 = 10;
pub(super) const MEMBER: i64 = 1_000_000;

pub(super) struct Service {
    process: Child,
    pub(super) url: String,
    pub(super) database_url: String,
    pub(super) token: String,
    pub(super) client: Client,
    _folder: tempfile::TempDir,
}

impl Service {
    pub(super) async fn start() -> Self {
        let program = services::program("trade-service", &Progress::detect()).await;
        let program = program.expect("trade-service is built");
        let folder = tempfile::tempdir().expect("a folder");
        let signer = Signer::open_or_create(folder.path()).expect("a key");
        let name = format!("load_{}", std::process::id());
        let database_url = testing::postgres().await.create_database(&name).await;
        let database_url = database_url.expect("a database");
        let (address, admin) = (free_address().await, free_address().await);
        let process = spawn(&program, [&address, &admin], &database_url, &signer);
        let client = Client::builder().no_proxy().build().expect("a client");
        let ready = format!("http://{admin}/readyz");
        eventually("trade-service is ready", BOUND, async || {
            client
                .get(&ready)
                .send()
                .await
                .and_then(reqwest::Response::error_for_status)
        })
        .await;
        Self {
            process,
            url: format!("http://{address}/v1/trade-posts"),
            database_url,
            token: signer.token(MEMBER, Duration::from_hours(2)).expect("a token"),
            client,
            _folder: folder,
        }
    }

    pub(super) async fn stop(mut self) {
        self.process.kill().await.expect("it ends");
    }
}

fn spawn(program: &Path, [address, admin]: [&str; 2], database_url: &str, signer: &Signer) -> Child {
    Command::new(program)
        .env("LISTEN", address)
        .env("ADMIN_LISTEN", admin)
        .env("DATABASE_URL", database_url)
        .env("DATABASE_CONNECTIONS", CONNECTIONS.to_string())
        .env("JWT_JWKS", signer.jwks_path())
        .env("JWT_ISSUER", ISSUER)
        .env("JWT_AUDIENCE", AUDIENCE)
        .env("LOG", "error")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("trade-service starts")
}

async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("its address").to_string()
}
