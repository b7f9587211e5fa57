//! The members' open event streams, and what came through them.
//!
//! Invariant: a stream that ends is opened again behind its last event, as an app would do it, so what
//! is told is neither missed nor counted twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{sync::watch, task::JoinSet};

use super::load::Clients;
use crate::client::{Event, EventStream, Notification};

const OPEN_AT_ONCE: usize = 16;
const OPENING_BOUND: Duration = Duration::from_secs(10);

/// An event that a member's stream brought.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) member: i64,
    pub(super) seq: i64,
    pub(super) kind: String,
    /// Empty for events that are about no room.
    pub(super) room: String,
    pub(super) read_at: Instant,
}

#[derive(Debug)]
pub(super) struct Listeners {
    told: watch::Receiver<Vec<Told>>,
    readers: JoinSet<()>,
}

impl Listeners {
    /// Returns once every member's stream is open: from then on it misses nothing.
    pub(super) async fn open(clients: &Clients) -> Result<Self> {
        let (sender, told) = watch::channel(Vec::new());
        let streams: Vec<(i64, EventStream)> = stream::iter(clients)
            .map(async |(member, client)| {
                let opening = async {
                    let mut stream = client.events(None).await?;
                    // It says where the reader is, after the stream has its place at the service.
                    stream
                        .next_frame()
                        .await?
                        .context("the stream ended at its beginning")?;
                    anyhow::Ok((*member, stream))
                };
                tokio::time::timeout(OPENING_BOUND, opening)
                    .await
                    .unwrap_or_else(|_| Err(anyhow!("nothing came within {OPENING_BOUND:?}")))
                    .with_context(|| format!("the event stream of member {member} could not be opened"))
            })
            .buffer_unordered(OPEN_AT_ONCE)
            .try_collect()
            .await?;
        let mut readers = JoinSet::new();
        for (member, stream) in streams {
            readers.spawn(read(member, stream, sender.clone()));
        }
        Ok(Self { told, readers })
    }

    pub(super) fn count(&self) -> usize {
        self.readers.len()
    }

    /// Everything that came so far.
    pub(super) fn told(&self) -> Vec<Told> {
        self.told.borrow().clone()
    }

    /// When the last of `expected`, each a member and a room, was told that the room is closed. None if
    /// that did not happen within `bound`.
    pub(super) async fn all_told(&self, expected: &[(i64, &str)], bound: Duration) -> Option<Instant> {
        let mut told = self.told.clone();
        let all = told.wait_for(|told| closed_last(told, expected).is_some());
        let told = tokio::time::timeout(bound, all).await.ok()?.ok()?;
        closed_last(&told, expected)
    }
}

fn closed_last(told: &[Told], expected: &[(i64, &str)]) -> Option<Instant> {
    let times = expected.iter().map(|(member, room)| {
        let of_room =
            |told: &&Told| told.kind == "room_closed" && told.member == *member && told.room == *room;
        told.iter().find(of_room).map(|told| told.read_at)
    });
    times.collect::<Option<Vec<Instant>>>()?.into_iter().max()
}

async fn read(member: i64, mut stream: EventStream, told: watch::Sender<Vec<Told>>) {
    loop {
        while let Ok(Some(Event {
            id,
            name,
            data,
            read_at,
        })) = stream.next().await
        {
            let about: Option<Notification> = serde_json::from_str(&data).ok();
            told.send_modify(|told| {
                told.push(Told {
                    member,
                    seq: id,
                    kind: name,
                    room: about.map(|about| about.room_id).unwrap_or_default(),
                    read_at,
                });
            });
        }
        let pause = stream.retry().unwrap_or(Duration::from_secs(1));
        tokio::time::sleep(pause).await;
        // An error here is met again by reading, after another pause.
        let _ = stream.reconnect().await;
    }
}
