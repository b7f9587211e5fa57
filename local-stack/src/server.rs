//! A server of the stack: a guarded process, the port it keeps over restarts, and the probe that tells
//! when it can be used. Tests kill, stop and restart it.

use std::{
    fmt,
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail, ensure};
use futures_util::future::BoxFuture;
use rustix::process::Signal;

use crate::{
    log, ports,
    process::{Launch, Process},
};

const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// A probe that hangs counts as one that failed.
const PROBE_BOUND: Duration = Duration::from_secs(5);

/// Asks a server for a real answer; an error says what it answered instead.
pub(crate) type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

pub(crate) fn probe<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Probe
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    Arc::new(move || Box::pin(ask()))
}

/// Succeeds once a GET of that address is answered with success.
#[cfg(feature = "full")]
pub(crate) fn probe_http(url: String) -> Result<Probe> {
    // Tests have a runtime each, and a connection dies with the runtime that made it: keep none.
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
    Ok(probe(move || {
        let request = client.get(&url).send();
        async move {
            request.await?.error_for_status()?;
            Ok(())
        }
    }))
}

pub struct Server {
    launch: Launch,
    ports: Vec<u16>,
    probe: Probe,
    /// How long it may take until the probe succeeds.
    bound: Duration,
    process: Mutex<Option<Process>>,
}

impl Server {
    /// Starts the process and waits until it answers.
    pub(crate) async fn start(
        launch: Launch,
        ports: impl IntoIterator<Item = u16>,
        bound: Duration,
        probe: Probe,
    ) -> Result<Self> {
        let ports = ports.into_iter().collect();
        let server = Self {
            launch,
            ports,
            probe,
            bound,
            process: Mutex::new(None),
        };
        server.restart().await?;
        Ok(server)
    }

    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Its process id; none while it is down.
    pub fn pid(&self) -> Option<u32> {
        let mut process = self.process();
        let process = process.as_mut()?;
        if !matches!(process.try_wait(), Ok(None)) {
            return None;
        }
        u32::try_from(process.pid().as_raw_nonzero().get()).ok()
    }

    /// How it ended, if it did so by itself or was asked to.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        match self.process().as_mut() {
            Some(process) => process.try_wait(),
            None => Ok(None),
        }
    }

    /// Its log file.
    pub fn log(&self) -> &std::path::Path {
        &self.launch.log
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        match self.process().take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Stops it (SIGSTOP): it keeps its port and its connections and answers nothing.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Server::stop`].
    pub fn cont(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM for services), without waiting for it.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Starts it on the same port and data, ending it in order before if it runs, and waits until it answers.
    pub async fn restart(&self) -> Result<()> {
        self.end().await?;
        for &port in &self.ports {
            ensure!(
                ports::comes_free(port).await,
                "{} needs port {port} of 127.0.0.1, which another process uses; end that process",
                self.name()
            );
        }
        let launch = self.launch.clone();
        // A process of an earlier run may still have to end: not a wait for a thread of the runtime.
        let process = tokio::task::spawn_blocking(move || launch.spawn()).await??;
        *self.process() = Some(process);
        self.ready().await
    }

    /// Asks it to end in its own way and waits; after the bound it is killed.
    pub async fn end(&self) -> Result<()> {
        let Some(mut process) = self.process().take() else {
            return Ok(());
        };
        process.signal(self.launch.stop_signal)?;
        let deadline = Instant::now() + self.launch.bound;
        while process.try_wait()?.is_none() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        process.kill()
    }

    /// Waits until it answers.
    pub async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + self.bound;
        loop {
            let answer = tokio::time::timeout(PROBE_BOUND, (self.probe)())
                .await
                .unwrap_or_else(|_| Err(anyhow!("no answer within {PROBE_BOUND:?}")));
            let Err(reason) = answer else { return Ok(()) };
            let status = self
                .process()
                .as_mut()
                .map(Process::try_wait)
                .transpose()?
                .flatten();
            if let Some(status) = status {
                bail!(
                    "{} ended while it started ({status}); {}",
                    self.name(),
                    log::tail(&self.launch.log)
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} is not ready after {:?}: {reason:#}; {}",
                    self.name(),
                    self.bound,
                    log::tail(&self.launch.log)
                );
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match self.process().as_mut() {
            Some(process) => process.signal(signal),
            None => bail!("{} does not run", self.name()),
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name())
            .field("log", &self.log())
            .finish_non_exhaustive()
    }
}
