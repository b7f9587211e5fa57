//! Hands events to the open streams of their member on this instance.
//!
//! Invariant: the hub holds nothing that matters and never waits for a reader. It is sharded by member;
//! nothing of it is locked as a whole.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::mailbox::{Mailbox, Put};
use crate::{config::StreamConfig, metrics::ChatMetrics, notification::Frame};

const SHARDS: usize = 64;

/// The open streams by member.
#[derive(Debug)]
pub struct Hub {
    shards: Vec<Mutex<Shard>>,
    open: AtomicUsize,
    pub config: StreamConfig,
    pub metrics: ChatMetrics,
}

#[derive(Debug, Default)]
struct Shard {
    /// No streams are taken any more.
    closed: bool,
    streams: HashMap<i64, Vec<Arc<Mailbox>>>,
}

/// A stream's place in the hub, given back when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    member: i64,
    pub mailbox: Arc<Mailbox>,
}

/// A member with streams here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    pub member: i64,
    /// The furthest that a stream of the member knows of.
    pub known: i64,
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
    pub fn new(config: StreamConfig, metrics: ChatMetrics) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            open: AtomicUsize::new(0),
            config,
            metrics,
        })
    }

    fn shard(&self, member: i64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(member.unsigned_abs()).unwrap_or_default() % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a stream of `member`. From here on it misses nothing.
    pub fn subscribe(self: &Arc<Self>, member: i64) -> Result<Subscription, Full> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.config.streams_per_instance {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Instance(self.config.streams_per_instance));
        }
        let mailbox = Arc::new(Mailbox::default());
        let taken = {
            let mut shard = self.shard(member);
            let held = shard.streams.get(&member).map_or(0, Vec::len);
            if shard.closed {
                Err(Full::Closing)
            } else if held >= self.config.streams_per_member {
                Err(Full::Member(self.config.streams_per_member))
            } else {
                let streams = shard.streams.entry(member).or_default();
                // Most members have one.
                streams.reserve_exact(1);
                streams.push(Arc::clone(&mailbox));
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
            mailbox,
        })
    }

    /// Hands `frame` to every stream of `member`.
    pub fn publish(&self, member: i64, frame: &Frame) {
        let shard = self.shard(member);
        for mailbox in shard.streams.get(&member).into_iter().flatten() {
            if mailbox.put(frame) == Put::Overrun {
                self.metrics.streams_overrun.inc();
            }
        }
    }

    /// Tells the streams of a member whose sequence is now at `last` to look into MongoDB, where they
    /// have not heard of it. Answers how many that are.
    pub fn remind(&self, connected: Connected, last: i64) -> usize {
        // What streams knew before somebody looked cannot be ahead, unless the sequence began again.
        let begun_again = connected.known > last;
        let shard = self.shard(connected.member);
        let streams = shard.streams.get(&connected.member).into_iter().flatten();
        streams
            .filter(|mailbox| mailbox.remind(last, begun_again))
            .count()
    }

    /// Whether `member` has a stream here.
    pub fn has(&self, member: i64) -> bool {
        self.shard(member).streams.contains_key(&member)
    }

    /// The members that have streams here, and what these know of.
    pub fn connected(&self) -> Vec<Connected> {
        let mut connected = Vec::with_capacity(self.open.load(Ordering::Relaxed));
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            connected.extend(shard.streams.iter().filter_map(|(member, streams)| {
                Some(Connected {
                    member: *member,
                    known: streams.iter().filter_map(|mailbox| mailbox.known()).max()?,
                })
            }));
        }
        connected
    }

    /// Ends all streams and takes no new ones.
    pub fn close(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.closed = true;
            for mailbox in shard.streams.values().flatten() {
                mailbox.close();
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut shard = self.hub.shard(self.member);
        if let Some(streams) = shard.streams.get_mut(&self.member) {
            streams.retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
            if streams.is_empty() {
                shard.streams.remove(&self.member);
            }
        }
        drop(shard);
        self.hub.open.fetch_sub(1, Ordering::Relaxed);
        self.hub.metrics.streams_open.dec();
    }
}
