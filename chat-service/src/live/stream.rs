//! One reader's stream: what was missed, then live, each event once and in order.
//!
//! Invariant: the sequence only goes up by one, or a `reset` says that it jumped. A stream that is idle
//! holds its mailbox, a timer and its position.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use axum::body::{Body, Bytes};
use futures_util::stream;
use mongodb::error::Result;
use service_kit::{auth::Member, clock};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::warn;

use super::{hub::Subscription, mailbox::Signal, replay::Behind};
use crate::{http::App, metrics::StreamEnd};

/// Readers come back after this many milliseconds, and up to as many more.
const RETRY_MS: u64 = 1000;
/// Fills the first buffer of proxies that hold an answer back until they have this much of it.
const PADDING: usize = 2048;
/// Ignored by readers; keeps proxies from closing a silent connection.
const HEARTBEAT: &[u8] = b":\n\n";

struct Reader {
    app: Arc<App>,
    subscription: Subscription,
    member: i64,
    /// Sequence of the last event sent.
    position: i64,
    /// Whether MongoDB may hold events behind `position`.
    behind: bool,
    /// What goes out first.
    opening: Option<Bytes>,
    /// Fires at the next heartbeat or at the end.
    timer: Pin<Box<Sleep>>,
    end: Instant,
    /// Whether the end is that of the token.
    ends_with_token: bool,
    ended: Option<StreamEnd>,
}

/// The body of a stream for a reader who has seen `last_event_id`, or starts now without one.
///
/// # Errors
/// If MongoDB does not answer.
pub async fn open(
    app: Arc<App>,
    member: Member,
    subscription: Subscription,
    last_event_id: Option<i64>,
) -> Result<Body> {
    let current = app.replay.current(member.id).await?;
    let retry = RETRY_MS + rand::random_range(0..RETRY_MS);
    // Beyond the sequence, the id is not from here.
    let position = last_event_id.unwrap_or(current).min(current);
    let first = if last_event_id.is_some_and(|id| id > current) {
        reset(current)
    } else {
        // Without data it makes no event; it only says where the reader is.
        format!("id: {position}\n\n")
    };
    let padding = "";
    let opening = format!(":{padding:PADDING$}\nretry: {retry}\n{first}");
    subscription.mailbox.reached(position);

    let now = Instant::now();
    let age = app.streams.stream_max_age.mul_f64(rand::random_range(0.8..=1.0));
    let valid = (member.expires_at - clock::now()).to_std().unwrap_or_default();
    let end = now + age.min(valid);
    let reader = Reader {
        subscription,
        member: member.id,
        position,
        behind: position < current,
        opening: Some(opening.into()),
        timer: Box::pin(sleep_until(end.min(now + app.streams.stream_heartbeat))),
        end,
        ends_with_token: valid <= age,
        ended: None,
        app,
    };
    Ok(Body::from_stream(stream::unfold(reader, async |mut reader| {
        let bytes = reader.next().await?;
        Some((Ok::<_, Infallible>(bytes), reader))
    })))
}

impl Reader {
    /// The next bytes to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        let bytes = match self.opening.take() {
            Some(opening) => Ok(opening),
            None => self.event().await,
        };
        match bytes {
            Ok(bytes) => {
                let heartbeat = Instant::now() + self.app.streams.stream_heartbeat;
                self.timer.as_mut().reset(heartbeat.min(self.end));
                Some(bytes)
            }
            Err(end) => {
                self.ended = Some(end);
                None
            }
        }
    }

    async fn event(&mut self) -> std::result::Result<Bytes, StreamEnd> {
        loop {
            if Instant::now() >= self.end {
                return Err(if self.ends_with_token {
                    StreamEnd::Token
                } else {
                    StreamEnd::Age
                });
            }
            if self.behind {
                let mailbox = Arc::clone(&self.subscription.mailbox);
                let read = tokio::select! {
                    // Boxed: an idle stream does not keep room for it.
                    read = Box::pin(self.read_on()) => read,
                    () = mailbox.closed() => return Err(StreamEnd::Shutdown),
                };
                match read {
                    Ok(Some(bytes)) => return Ok(bytes),
                    Ok(None) => {}
                    Err(error) => {
                        warn!(%error, "a stream ends because its events could not be read");
                        return Err(StreamEnd::Failed);
                    }
                }
            }
            tokio::select! {
                () = &mut self.timer => {
                    if Instant::now() < self.end {
                        return Ok(Bytes::from_static(HEARTBEAT));
                    }
                }
                signal = self.subscription.mailbox.next() => match signal {
                    Signal::Frame(frame) if frame.seq <= self.position => {}
                    Signal::Frame(frame) if frame.seq == self.position + 1 => {
                        self.position = frame.seq;
                        return Ok(frame.bytes);
                    }
                    Signal::Frame(_) | Signal::Behind => self.behind = true,
                    Signal::Closed => return Err(StreamEnd::Shutdown),
                },
            }
        }
    }

    /// Reads a page of what lies behind the position.
    async fn read_on(&mut self) -> Result<Option<Bytes>> {
        let bytes = match self.app.replay.behind(self.member, self.position).await? {
            Behind::Events(page) => {
                self.position = page.last;
                self.behind = page.more;
                if page.bytes.is_empty() {
                    // All of them were deleted. The reader need not ask for them again.
                    format!("id: {}\n\n", page.last).into()
                } else {
                    page.bytes
                }
            }
            Behind::Nothing => {
                self.behind = false;
                return Ok(None);
            }
            // The reader has to load its state anew.
            Behind::Lost { current } => {
                self.position = current;
                self.behind = false;
                reset(current).into()
            }
        };
        self.subscription.mailbox.reached(self.position);
        Ok(Some(bytes.into()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let end = self.ended.unwrap_or_else(|| {
            if self.behind || self.subscription.mailbox.is_waiting() {
                StreamEnd::Slow
            } else {
                StreamEnd::Gone
            }
        });
        self.app.metrics.stream_ended(end);
    }
}

fn reset(current: i64) -> String {
    format!("id: {current}\nevent: reset\ndata: {{\"sequence\":{current}}}\n\n")
}
