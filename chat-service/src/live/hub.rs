//! Hands events to the open streams of their member on this instance.
//!
//! Invariant: publishing never waits. A stream whose buffer is full is cut; its reader comes back
//! and continues from MongoDB where it was.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::mpsc;

use crate::{config::StreamConfig, metrics::ChatMetrics, notification::Frame};

/// Events that wait for one reader before its stream is cut.
const BUFFER: usize = 32;
const SHARDS: usize = 64;

/// What a stream is told.
#[derive(Clone, Debug)]
pub enum Signal {
    /// The member's next event.
    Frame(Frame),
    /// Something may have been missed: read on in MongoDB.
    CatchUp,
}

/// The open streams by member.
#[derive(Debug)]
pub struct Hub {
    shards: Vec<Mutex<Shard>>,
    next_id: AtomicU64,
    open: AtomicUsize,
    limits: StreamConfig,
    metrics: ChatMetrics,
}

#[derive(Debug, Default)]
struct Shard {
    /// No streams are taken any more.
    closed: bool,
    streams: HashMap<i64, Vec<Place>>,
}

#[derive(Debug)]
struct Place {
    id: u64,
    sender: mpsc::Sender<Signal>,
}

/// A stream's place in the hub, given back when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    member: i64,
    id: u64,
    pub signals: mpsc::Receiver<Signal>,
}

/// Why a stream cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The member has this many streams here.
    Member(usize),
    /// The instance has this many.
    Instance(usize),
    /// The instance is shutting down.
    Closing,
}

impl Hub {
    pub fn new(limits: StreamConfig, metrics: ChatMetrics) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next_id: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            limits,
            metrics,
        })
    }

    fn shard(&self, member: i64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(member.unsigned_abs()).unwrap_or_default() % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a stream of `member`. From here on it misses nothing.
    pub fn subscribe(self: &Arc<Self>, member: i64) -> Result<Subscription, Full> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.limits.streams_per_instance {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Instance(self.limits.streams_per_instance));
        }
        let (sender, signals) = mpsc::channel(BUFFER);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let taken = {
            let mut shard = self.shard(member);
            let held = shard.streams.get(&member).map_or(0, Vec::len);
            if shard.closed {
                Err(Full::Closing)
            } else if held >= self.limits.streams_per_member {
                Err(Full::Member(self.limits.streams_per_member))
            } else {
                shard
                    .streams
                    .entry(member)
                    .or_default()
                    .push(Place { id, sender });
                Ok(())
            }
        };
        if let Err(full) = taken {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(full);
        }
        self.metrics.streams_open.inc();
        Ok(Subscription {
            hub: Arc::clone(self),
            member,
            id,
            signals,
        })
    }

    /// Hands `frame` to every stream of `member`.
    pub fn publish(&self, member: i64, frame: &Frame) {
        let mut shard = self.shard(member);
        if let Some(places) = shard.streams.get_mut(&member) {
            places.retain(|place| self.offer(place, Signal::Frame(frame.clone())));
        }
    }

    /// Tells every stream to look into MongoDB.
    pub fn catch_up_all(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for places in shard.streams.values_mut() {
                places.retain(|place| self.offer(place, Signal::CatchUp));
            }
        }
    }

    /// Whether the stream goes on.
    fn offer(&self, place: &Place, signal: Signal) -> bool {
        match place.sender.try_send(signal) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.metrics.streams_cut.inc();
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Whether `member` has a stream here.
    pub fn has(&self, member: i64) -> bool {
        self.shard(member).streams.contains_key(&member)
    }

    /// Ends all streams and takes no new ones.
    pub fn close(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.closed = true;
            shard.streams.clear();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut shard = self.hub.shard(self.member);
        if let Some(places) = shard.streams.get_mut(&self.member) {
            places.retain(|place| place.id != self.id);
            if places.is_empty() {
                shard.streams.remove(&self.member);
            }
        }
        drop(shard);
        self.hub.open.fetch_sub(1, Ordering::Relaxed);
        self.hub.metrics.streams_open.dec();
    }
}
