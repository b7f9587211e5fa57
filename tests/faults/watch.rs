//! What an orchestrator and a load balancer see of chat-service while something else is broken: it stays the
//! same living process, and says which server it misses.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use e2e::eventually::{eventually, eventually_is};
use local_stack::services::Service;
use serde_json::Value;
use tokio::{task::JoinHandle, time::interval};

use crate::BOUND;

const EVERY: Duration = Duration::from_millis(100);
/// An orchestrator would count a longer silence as death.
const ANSWER_BOUND: Duration = Duration::from_secs(5);

pub struct Watch {
    url: String,
    pid: Option<u32>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    answers: u32,
    not_alive: Vec<String>,
}

impl Watch {
    pub fn start(chat: &Service) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let url = chat.admin_url().to_owned();
        let task = tokio::spawn({
            let (seen, url) = (Arc::clone(&seen), url.clone());
            async move {
                let mut ticks = interval(EVERY);
                loop {
                    ticks.tick().await;
                    let alive = ask(&format!("{url}/livez")).await;
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    match alive {
                        Ok((200, _)) => seen.answers += 1,
                        other => seen.not_alive.push(format!("{other:?}")),
                    }
                }
            }
        });
        Self {
            url,
            pid: chat.server.pid(),
            seen,
            task,
        }
    }

    /// Waits until `/readyz` names this dependency, and no other, as down.
    pub async fn sees_down(&self, dependency: &str) {
        let wanted = BTreeSet::from([dependency.to_owned()]);
        eventually_is("dependencies that are down", BOUND, Ok(wanted), async || {
            down(&self.url).await
        })
        .await;
    }

    /// Waits until `/readyz` answers 200.
    pub async fn is_ready(&self) {
        eventually("chat-service is ready", BOUND, async || {
            match ask(&format!("{}/readyz", self.url)).await {
                Ok((200, _)) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    /// Checks that `chat` was alive all the time, is the same process, and is ready.
    pub async fn end(self, chat: &Service) {
        self.is_ready().await;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(
            seen.not_alive,
            Vec::<String>::new(),
            "of {} answers",
            seen.answers
        );
        assert!(seen.answers > 0);
        assert_eq!(chat.server.pid(), self.pid, "the same process");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn down(url: &str) -> Result<BTreeSet<String>, String> {
    let (_, body) = ask(&format!("{url}/readyz")).await?;
    let report: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    let dependencies = report["dependencies"].as_object().into_iter().flatten();
    Ok(dependencies
        .filter(|(_, state)| state["up"] != true)
        .map(|(name, _)| name.clone())
        .collect())
}

async fn ask(url: &str) -> Result<(u16, String), String> {
    let asked = async {
        let answer = reqwest::Client::new()
            .get(url)
            .timeout(ANSWER_BOUND)
            .send()
            .await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    };
    asked.await.map_err(|error: reqwest::Error| format!("{error:?}"))
}
