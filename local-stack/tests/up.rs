//! The life of a system on one folder: up, killed, up again on what it had, ended, cleaned.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use local_stack::{
    Endpoints,
    environment::Environment,
    progress::Progress,
    server::Server,
    system::{System, SystemOptions},
};
use reqwest::Client;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

/// Enough for the first build of the services.
const UP_BOUND: Duration = Duration::from_mins(20);
const GONE_BOUND: Duration = Duration::from_secs(20);
const MEMORY_BOUND_KIBIBYTES: u64 = 3 << 20;

fn local_stack(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local-stack"));
    command.args(arguments).arg("--data-dir").arg(folder);
    command
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn a_system_lives_dies_and_comes_back_with_its_data() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("stack");

    let mut launcher = local_stack(&folder, &["up", "--chat-instances", "2"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + UP_BOUND;
    while !folder.join("endpoints.json").exists() {
        assert_eq!(launcher.try_wait().unwrap(), None, "it ended before it was up");
        assert!(Instant::now() < deadline, "it is not up after {UP_BOUND:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let endpoints = Endpoints::read(&folder).unwrap();
    assert_eq!(endpoints.chat_services.len(), 2);
    assert_eq!(endpoints.chat_service, endpoints.chat_services[0]);

    // While it is up, the folder is its own.
    for command in ["up", "clean"] {
        let message = refusal(&local_stack(&folder, &[command]).output().unwrap());
        assert!(
            message.contains(&format!("process {}", launcher.id())),
            "{message}"
        );
    }

    let token = local_stack(&folder, &["token", "101"]).output().unwrap().stdout;
    let token = String::from_utf8(token).unwrap();
    let post = create_post(&endpoints.trade_service, token.trim()).await;
    let schema = register_schema(&endpoints.registry).await;

    // Killed like this it can end nothing itself.
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    everything_ends(&folder).await;

    let system = System::start(SystemOptions {
        data_dir: Some(folder.clone()),
        fresh: false,
        chat_instances: 1,
        mongodb_uri: Environment::read().unwrap().mongodb_uri,
        progress: Progress::for_tests(),
    })
    .await
    .unwrap();
    let found: Value = get(
        &format!("{}/v1/trade-posts/{post}", system.trade.url()),
        token.trim(),
    )
    .await;
    assert_eq!(found["title"], "자전거");
    // The same schema gets the same id, and the next one another.
    assert_eq!(register_schema(system.stack.registry.url()).await, schema);
    let memory = memory_kibibytes(system.stack.servers());
    assert!(
        memory <= MEMORY_BOUND_KIBIBYTES,
        "the servers take {} MiB",
        memory >> 10
    );

    system.end().await.unwrap();
    everything_ends(&folder).await;
    assert!(!folder.join("endpoints.json").exists());
    assert!(local_stack(&folder, &["clean"]).status().unwrap().success());
    assert!(!folder.exists());
}

async fn create_post(trade: &str, token: &str) -> i64 {
    let post = json!({ "title": "자전거", "body": "거의 새 것", "price": 120_000, "category": "스포츠" });
    let answer = Client::new()
        .post(format!("{trade}/v1/trade-posts"))
        .bearer_auth(token)
        .json(&post)
        .send()
        .await
        .unwrap();
    answer.error_for_status().unwrap().json::<Value>().await.unwrap()["id"]
        .as_i64()
        .unwrap()
}

async fn register_schema(registry: &str) -> Value {
    let schema = json!({ "schema": r#"{"type":"record","name":"Kept","fields":[]}"# });
    let answer = Client::new()
        .post(format!("{registry}/apis/ccompat/v7/subjects/kept-value/versions"))
        .json(&schema)
        .send()
        .await
        .unwrap();
    answer.error_for_status().unwrap().json::<Value>().await.unwrap()["id"].clone()
}

async fn get(url: &str, token: &str) -> Value {
    let answer = Client::new().get(url).bearer_auth(token).send().await.unwrap();
    answer.error_for_status().unwrap().json().await.unwrap()
}

/// Every process holds a lock on its log for as long as it lives.
async fn everything_ends(folder: &Path) {
    let deadline = Instant::now() + GONE_BOUND;
    let mut logs = 0;
    for entry in fs::read_dir(folder.join("logs")).unwrap() {
        let path = entry.unwrap().path();
        let log = File::open(&path).unwrap();
        while flock(&log, FlockOperation::NonBlockingLockExclusive).is_err() {
            assert!(
                Instant::now() < deadline,
                "the process of {} lives on",
                path.display()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        logs += 1;
    }
    assert!(logs >= 7, "there are logs of all processes");
}

fn memory_kibibytes<'a>(servers: impl Iterator<Item = &'a Server>) -> u64 {
    let pids: Vec<String> = servers.map(|server| server.pid().unwrap().to_string()).collect();
    let output = Command::new("ps")
        .args(["-o", "rss=", "-p", &pids.join(",")])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .map(|rss| rss.parse::<u64>().unwrap())
        .sum()
}
