//! Readers of event streams: a plain connection each, which costs the measuring side little. Member 1 has
//! the first, member 2 the second, and so on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use crate::service::{BUYERS, Service};

/// Streams that are opened at the same time.
const AT_ONCE: usize = 64;
/// What a probe's message says before its number.
pub const PROBE: &str = "probe ";

pub struct Listeners {
    tasks: JoinSet<()>,
    heard: mpsc::UnboundedReceiver<(usize, Instant)>,
    tell: mpsc::UnboundedSender<(usize, Instant)>,
    ended: Arc<AtomicUsize>,
}

impl Default for Listeners {
    fn default() -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        Self {
            tasks: JoinSet::new(),
            heard,
            tell,
            ended: Arc::default(),
        }
    }
}

impl Listeners {
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Opens streams until there are so many. Answers how long that took.
    pub async fn extend(&mut self, service: &Service, streams: usize) -> Result<Duration> {
        let begun = Instant::now();
        let members = self.tasks.len()..streams;
        let opened: Vec<(i64, TcpStream)> = stream::iter(members)
            .map(async |index| {
                let member = i64::try_from(index)? + 1;
                let stream = open(service, member).await;
                Ok::<_, anyhow::Error>((member, stream.with_context(|| format!("stream {member}"))?))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let took = begun.elapsed();
        for (member, stream) in opened {
            let (tell, ended) = (self.tell.clone(), Arc::clone(&self.ended));
            self.tasks.spawn(async move {
                if member <= BUYERS {
                    listen(stream, tell).await;
                } else {
                    wait(stream).await;
                }
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        Ok(took)
    }

    /// When the probe of that number was read.
    pub async fn heard(&mut self, probe: usize) -> Option<Instant> {
        while let Some((number, at)) = self.heard.recv().await {
            if number == probe {
                return Some(at);
            }
        }
        None
    }

    /// No stream may have ended meanwhile.
    pub fn check(&self) -> Result<()> {
        let ended = self.ended.load(Ordering::Relaxed);
        ensure!(ended == 0, "{ended} streams have ended");
        Ok(())
    }

    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn open(service: &Service, member: i64) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(&service.address).await?;
    let token = service.token(member)?;
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\nauthorization: Bearer {token}\r\n\r\n",
        service.address
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    // The head, and the first frame: from there on the stream misses nothing.
    while !contains(&head, b"\nid: ") {
        let read = stream.read(&mut piece).await?;
        ensure!(read > 0, "ended: {}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&piece[..read]);
    }
    ensure!(
        head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    Ok(stream)
}

/// Tells of every probe as soon as it was read, until the stream ends.
async fn listen(mut stream: TcpStream, tell: mpsc::UnboundedSender<(usize, Instant)>) {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let at = Instant::now();
        text.extend_from_slice(&piece[..read]);
        let Some(end) = text.windows(2).rposition(|pair| pair == b"\n\n") else {
            continue;
        };
        let frames = String::from_utf8_lossy(&text[..end]).into_owned();
        text.drain(..end);
        for (_, rest) in frames
            .match_indices(PROBE)
            .map(|(at, _)| frames.split_at(at + PROBE.len()))
        {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            if let Ok(number) = rest[..digits].parse() {
                let _ = tell.send((number, at));
            }
        }
    }
}

async fn wait(mut stream: TcpStream) {
    let mut piece = [0; 64];
    while let Ok(1..) = stream.read(&mut piece).await {}
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
