//! A process of chat-service between proxies, which is killed, frozen, cut off and started again.
//!
//! Invariant: whatever is done to it, one thing is done at a time, and it ends with the process running if
//! it ran before.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use e2e::{
    proxy::{Proxy, Stopped},
    world::{World, stop},
};
use futures_util::TryStreamExt;
use local_stack::services::{self, Service, ServiceOptions};
use mongodb::{
    bson::{DateTime, doc},
    options::ClientOptions,
};
use tokio::{sync, time::sleep};

/// Lines of a log that are shown.
const LAST_WORDS: usize = 25;

pub struct Process<'a> {
    world: &'a World,
    pub mongo: Proxy,
    pub registry: Proxy,
    options: Mutex<ServiceOptions>,
    running: sync::Mutex<Option<Service>>,
    /// Whether requests may go there; it may be down for a moment all the same.
    wanted: AtomicBool,
}

impl<'a> Process<'a> {
    /// Makes its proxies; nothing runs yet. `settings` are added to its environment.
    pub async fn prepare(world: &'a World, settings: BTreeMap<&str, String>) -> Result<Self> {
        let mut options = world.chat_options();
        options.wait_until_ready = false;
        let uri = options.env["MONGODB_URI"].clone();
        let hosts = ClientOptions::parse(&uri).await?.hosts;
        let mongodb = hosts.first().context("a MongoDB URI names a host")?.to_string();
        let mongo = Proxy::start(&mongodb).await?;
        // The driver would go to the address that the server calls its own.
        let uri = uri.replace(&mongodb, &mongo.address().to_string()) + "&directConnection=true";
        let url = options.env["SCHEMA_REGISTRY_URL"].clone();
        let address = url.split('/').nth(2).context("a URL has a host")?;
        let registry = Proxy::start(address).await?;
        let url = url.replace(address, &registry.address().to_string());
        let mut options = options.env("MONGODB_URI", uri).env("SCHEMA_REGISTRY_URL", url);
        for (name, value) in settings {
            options = options.env(name, value);
        }
        Ok(Self {
            world,
            mongo,
            registry,
            options: Mutex::new(options),
            running: sync::Mutex::new(None),
            wanted: AtomicBool::new(false),
        })
    }

    /// Base addresses of its listeners, whether it runs or not.
    pub fn urls(&self) -> [String; 2] {
        let options = self.options.lock().expect("nobody panics with it");
        [options.port, options.admin_port].map(|port| format!("http://127.0.0.1:{port}"))
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// # Errors
    /// If it ends at once or never answers.
    pub async fn start(&self) -> Result<()> {
        let mut running = self.running.lock().await;
        if running.is_none() {
            *running = Some(self.spawn().await?);
            self.wanted.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn spawn(&self) -> Result<Service> {
        let options = self.options.lock().expect("nobody panics with it").clone();
        services::spawn_chat(self.world.stack, options).await
    }

    /// Kills it, where it was stopped if it was, and starts it again after `down`.
    pub async fn kill_and_start(&self, stopped: Option<Stopped>, down: Duration) -> Result<()> {
        let mut running = self.running.lock().await;
        if let Some(service) = running.take() {
            self.kill(&service, stopped).await?;
            sleep(down).await;
            *running = Some(self.spawn().await?);
        }
        Ok(())
    }

    async fn kill(&self, service: &Service, stopped: Option<Stopped>) -> Result<()> {
        service.server.kill()?;
        drop(stopped);
        self.mongo.abort_transactions().await?;
        Ok(())
    }

    /// Tells it to end, and starts it again.
    pub async fn restart(&self) -> Result<()> {
        let mut running = self.running.lock().await;
        if let Some(service) = running.take() {
            stop(&service).await;
            *running = Some(self.spawn().await?);
        }
        Ok(())
    }

    /// Ends it, in order or not.
    pub async fn end(&self, killed: bool) -> Result<()> {
        self.wanted.store(false, Ordering::Relaxed);
        match self.running.lock().await.take() {
            Some(service) if killed => self.kill(&service, None).await?,
            Some(service) => stop(&service).await,
            None => {}
        }
        Ok(())
    }

    pub async fn freeze(&self, time: Duration) -> Result<()> {
        if let Some(service) = self.running.lock().await.as_ref() {
            service.server.stop()?;
            sleep(time).await;
            service.server.cont()?;
        }
        Ok(())
    }

    /// Lets it be a member of that group from its next start on.
    pub fn join(&self, group: &str) {
        let mut options = self.options.lock().expect("nobody panics with it");
        options.env.insert("KAFKA_GROUP_ID".into(), group.into());
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        for proxy in [&self.mongo, &self.registry] {
            proxy.forget_points();
            proxy.restore();
        }
    }

    /// The end of its log.
    pub async fn last_words(&self) -> Vec<String> {
        let running = self.running.lock().await;
        let log = running
            .as_ref()
            .map(|service| std::fs::read_to_string(service.server.log()));
        let log = log.and_then(Result::ok).unwrap_or_default();
        let lines: Vec<String> = log.lines().map(ToOwned::to_owned).collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].to_vec()
    }

    /// What it has said that it should not have, from `read` bytes of its log on; and how long that is now.
    pub async fn complaints(&self, read: usize) -> Result<(Vec<String>, usize)> {
        let running = self.running.lock().await;
        let Some(service) = running.as_ref() else {
            return Ok((Vec::new(), read));
        };
        let log = std::fs::read_to_string(service.server.log())?;
        let said = log.get(read..).unwrap_or_default().lines();
        let mut wrong: Vec<String> = said
            .filter(|line| is_wrong(line))
            .map(ToOwned::to_owned)
            .collect();
        if service.server.pid().is_none() {
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            wrong.push(format!("it has ended by itself, and said last: {last:#?}"));
        }
        Ok((wrong, log.len()))
    }
}

/// A failed request is an error to the service that the faults here are the reason of.
fn is_wrong(line: &str) -> bool {
    line.contains("panicked") || line.contains("ERROR") && !line.contains("MongoDB failed a request")
}

/// Lets the erasers' leases run out now.
pub async fn end_leases(world: &World) {
    let over = doc! { "$set": { "lease.until": DateTime::from_millis(0) } };
    let deletions = &world.store.deletions;
    let mut erasing = deletions
        .find(doc! { "state": "erasing" })
        .await
        .expect("MongoDB answers");
    // One by one: who changes many keeps erasers, that he may have to wait for, from all.
    while let Some(deletion) = erasing.try_next().await.expect("MongoDB answers") {
        let still = doc! { "_id": deletion.id, "state": "erasing" };
        let ended = deletions.update_one(still, over.clone()).await;
        ended.expect("MongoDB answers");
    }
}
