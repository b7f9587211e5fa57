//! One reader's stream: what was missed, then live, each event once and in order.
//!
//! Invariant: the sequence only goes up by one, or a `reset` says that it jumped.

use std::{convert::Infallible, sync::Arc};

use axum::body::{Body, Bytes};
use futures_util::stream;
use mongodb::error::Result;
use service_kit::{auth::Member, clock};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::{debug, warn};

use super::hub::{Signal, Subscription};
use crate::{http::App, notification::Notification};

/// Notifications read from MongoDB at once.
const PAGE: i64 = 200;
/// Readers come back after this many milliseconds, and up to as many more.
const RETRY_MS: u64 = 1000;

struct Reader {
    app: Arc<App>,
    member: i64,
    subscription: Subscription,
    /// Sequence of the last event sent.
    position: i64,
    /// Whether MongoDB may hold events behind `position`.
    behind: bool,
    /// What goes out first.
    opening: Option<Bytes>,
    /// Fires at the next heartbeat or at the end.
    timer: std::pin::Pin<Box<Sleep>>,
    end: Instant,
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
    let current = app.store.last_seq(member.id).await?;
    let retry = RETRY_MS + rand::random_range(0..RETRY_MS);
    let known = last_event_id.filter(|id| (0..=current).contains(id));
    let position = known.unwrap_or(current);
    let opening = if last_event_id.is_some() && known.is_none() {
        // Ahead of the sequence: it is not from here.
        format!("retry: {retry}\n{}", reset(current))
    } else {
        // Without data it makes no event; it only says where the reader is.
        format!("retry: {retry}\nid: {position}\n\n")
    };
    let now = Instant::now();
    let max_age = app.streams.stream_max_age;
    let age = max_age.mul_f64(rand::random_range(0.8..=1.0));
    let valid = (member.expires_at - clock::now()).to_std().unwrap_or_default();
    let end = now + age.min(valid);
    let heartbeat = now + app.streams.stream_heartbeat;
    let reader = Reader {
        member: member.id,
        subscription,
        position,
        behind: position < current,
        opening: Some(opening.into()),
        timer: Box::pin(sleep_until(heartbeat.min(end))),
        end,
        app,
    };
    Ok(Body::from_stream(stream::unfold(reader, async |mut reader| {
        let bytes = reader.next().await?;
        reader.rest();
        Some((Ok::<_, Infallible>(bytes), reader))
    })))
}

impl Reader {
    /// The next bytes to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        loop {
            if self.behind {
                // Boxed: an idle stream does not keep room for it.
                match Box::pin(self.read_on()).await {
                    Ok(Some(bytes)) => return Some(bytes),
                    Ok(None) => {}
                    Err(error) => {
                        warn!(%error, "a stream ends because its events could not be read");
                        return None;
                    }
                }
            }
            tokio::select! {
                signal = self.subscription.signals.recv() => match signal? {
                    Signal::Frame(frame) if frame.seq <= self.position => {}
                    Signal::Frame(frame) if frame.seq == self.position + 1 => {
                        self.position = frame.seq;
                        return Some(frame.bytes);
                    }
                    Signal::Frame(_) | Signal::CatchUp => self.behind = true,
                },
                () = &mut self.timer => {
                    if Instant::now() >= self.end {
                        debug!("a stream ends by age; its reader comes back");
                        return None;
                    }
                    return Some(Bytes::from_static(b":\n\n"));
                }
            }
        }
    }

    /// Reads a page of what lies behind the position.
    async fn read_on(&mut self) -> Result<Option<Bytes>> {
        let store = &self.app.store;
        let page: Vec<Notification> = store
            .notifications_after(self.member, self.position, PAGE)
            .await?;
        self.behind = i64::try_from(page.len()).is_ok_and(|len| len == PAGE);
        let Some(first) = page.first() else {
            return self.reset_if_behind().await;
        };
        if first.seq != self.position + 1 {
            return self.reset_if_behind().await;
        }
        let frames = store.frames(&page).await?;
        self.position = page.last().map_or(self.position, |last| last.seq);
        Ok(Some(
            frames.iter().flat_map(|frame| frame.bytes.clone()).collect(),
        ))
    }

    /// What the reader misses is not kept any more: it has to load its state anew.
    async fn reset_if_behind(&mut self) -> Result<Option<Bytes>> {
        let current = self.app.store.last_seq(self.member).await?;
        self.behind = false;
        if current <= self.position {
            return Ok(None);
        }
        self.position = current;
        Ok(Some(reset(current).into()))
    }

    fn rest(&mut self) {
        let heartbeat = Instant::now() + self.app.streams.stream_heartbeat;
        self.timer.as_mut().reset(heartbeat.min(self.end));
    }
}

fn reset(current: i64) -> String {
    format!("id: {current}\nevent: reset\ndata: {{\"sequence\":{current}}}\n\n")
}
