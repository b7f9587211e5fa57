//! A headless Chromium, told what to do by Chrome's protocol for developer tools over a pipe.
//!
//! Invariant: it needs no port, has a profile of its own in a temporary folder, and ends when this process
//! does, however that ends: the pipe ends with it.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures_util::FutureExt;
use local_stack::environment::Environment;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex, oneshot},
    time::timeout,
};

const PROGRAMS: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];
/// For one command; the first of all waits until the browser has started.
const ANSWER_BOUND: Duration = Duration::from_mins(1);
/// The browser reads commands from descriptor 3 and answers on 4.
const ON_A_PIPE: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >&2"#;
const FLAGS: [&str; 10] = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    // Small in containers.
    "--disable-dev-shm-usage",
    // The services are on this machine, whatever proxy its environment names.
    "--no-proxy-server",
    // No page of a test is in front, and all of them count.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
];

/// Variables of the environment; none is given as a flag.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Wanted {
    #[arg(long, env = "CHROMIUM")]
    chromium: Option<PathBuf>,
}

#[derive(Debug)]
pub struct Chromium {
    process: Mutex<Child>,
    commands: Mutex<ChildStdin>,
    next: AtomicI64,
    heard: Arc<Heard>,
    profile: TempDir,
}

/// What the browser said.
#[derive(Debug, Default)]
struct Heard {
    waiting: std::sync::Mutex<HashMap<i64, oneshot::Sender<Value>>>,
    /// Errors of scripts, and what a security policy kept from running.
    complaints: std::sync::Mutex<Vec<String>>,
}

impl Chromium {
    /// Runs `test` with a new browser, and ends that in order: nothing writes into its folder any more when
    /// it is removed.
    ///
    /// # Panics
    /// If the test does, there is no browser, or a page complained of an error or of what its policy forbids.
    pub async fn run(test: impl AsyncFnOnce(&Self)) {
        let browser = Self::start().await.expect("a browser");
        let outcome = AssertUnwindSafe(test(&browser)).catch_unwind().await;
        let complaints = lock(&browser.heard.complaints).clone();
        let ended = browser.end().await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        ended.expect("the browser ends in order");
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    async fn start() -> Result<Self> {
        let profile = tempfile::Builder::new().prefix("chromium-").tempdir()?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", ON_A_PIPE])
            .arg(program()?)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(profile.path().join("log"))?)
            .kill_on_drop(true);
        if rustix::process::geteuid().is_root() {
            // It refuses to run as root otherwise.
            command.arg("--no-sandbox");
        }
        let mut process = command.spawn()?;
        let commands = process.stdin.take().context("the browser's pipe")?;
        let answers = process.stdout.take().context("the browser's pipe")?;
        let heard = Arc::<Heard>::default();
        tokio::spawn(listen(answers, Arc::clone(&heard)));
        let browser = Self {
            process: Mutex::new(process),
            commands: Mutex::new(commands),
            next: AtomicI64::new(1),
            heard,
            profile,
        };
        browser.call(None, "Browser.getVersion", json!({})).await?;
        Ok(browser)
    }

    /// Carries out a command of the protocol, in a page's session or in the browser as a whole.
    pub async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answered, answer) = oneshot::channel();
        lock(&self.heard.waiting).insert(id, answered);
        let mut command = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.lock().await.write_all(&bytes).await?;
        let Ok(Ok(mut answer)) = timeout(ANSWER_BOUND, answer).await else {
            let log = std::fs::read_to_string(self.profile.path().join("log"))?;
            bail!("the browser did not answer {method}; its log:\n{log}");
        };
        match answer.get("error") {
            Some(error) => bail!("{method}: {error}"),
            None => Ok(answer["result"].take()),
        }
    }

    async fn end(self) -> Result<()> {
        self.call(None, "Browser.close", json!({})).await?;
        timeout(ANSWER_BOUND, self.process.lock().await.wait()).await??;
        Ok(())
    }
}

fn program() -> Result<PathBuf> {
    let wanted = Wanted::try_parse_from(std::iter::empty::<OsString>())?;
    let environment = Environment::read()?;
    let found = match &wanted.chromium {
        Some(named) => environment.find(named),
        None => PROGRAMS.iter().find_map(|name| environment.find(name)),
    };
    found.with_context(|| match wanted.chromium {
        Some(named) => format!("CHROMIUM names {}, which is no program", named.display()),
        None => "this test needs Chromium: install it (`apt-get install chromium`), or name a Chromium or \
                 Chrome in CHROMIUM"
            .to_owned(),
    })
}

/// Until the pipe ends. Whoever still waits then is told so by the end of its channel.
async fn listen(answers: ChildStdout, heard: Arc<Heard>) {
    let mut answers = BufReader::new(answers).split(0);
    while let Ok(Some(bytes)) = answers.next_segment().await {
        let Ok(said) = serde_json::from_slice::<Value>(&bytes) else {
            continue;
        };
        if let Some(id) = said["id"].as_i64() {
            if let Some(waiting) = lock(&heard.waiting).remove(&id) {
                // Nobody waits any more: it took too long.
                let _ = waiting.send(said);
            }
            continue;
        }
        let thrown = said["method"] == "Runtime.exceptionThrown";
        // Requests that failed are logged too; tests make them fail.
        if thrown || said["params"]["entry"]["source"] == "security" {
            lock(&heard.complaints).push(said["params"].to_string());
        }
    }
    lock(&heard.waiting).clear();
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
