//! Two measurements: how long requests take, and how long an event is on its way.
//!
//! Invariant: work comes at a fixed rate, whether what came before is done or not, and its time counts
//! from when it was due. A server that stalls does not get fewer requests by that.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    listeners::{Listeners, PROBE},
    service::{BUYERS, Service},
};

const REQUESTS_PER_SECOND: u32 = 200;
const PROBES_PER_SECOND: u32 = 50;
/// An event that takes longer is lost.
const LOST: Duration = Duration::from_secs(10);

/// Times in microseconds.
pub type Times = Histogram<u64>;

pub struct Requests {
    pub times: Times,
    /// Most MongoDB connections that were in use at once, by the client they belong to.
    pub of_its_client: i64,
    pub of_the_streams_client: i64,
}

pub struct Delivery {
    /// From the request to send a message until the other member has read it.
    pub from_sending: Times,
    /// From the answer of that request.
    pub from_answer: Times,
}

/// Lists of rooms, pages of messages, and sent messages: two, two and one of five.
pub async fn requests(service: &Service, duration: Duration) -> Result<Requests> {
    let mut done = JoinSet::new();
    let mut ticks = ticks(REQUESTS_PER_SECOND);
    let members = (1..=BUYERS)
        .map(|buyer| service.member(buyer))
        .collect::<Result<Vec<_>>>()?;
    let rooms: Vec<Arc<str>> = service.rooms.iter().map(|room| room.as_str().into()).collect();
    let (mut for_requests, mut for_streams) = (0, 0);
    let begun = Instant::now();
    for number in 0.. {
        let due = ticks.tick().await;
        if begun.elapsed() >= duration {
            break;
        }
        let buyer = number % members.len();
        let (member, room) = (members[buyer].clone(), Arc::clone(&rooms[buyer]));
        done.spawn(async move {
            match number % 5 {
                0 | 1 => drop(member.rooms().await?),
                2 | 3 => drop(member.messages_after(&room, 0).await?),
                _ => drop(
                    member
                        .send(&room, &format!("{due:?} {number}"), "네, 있어요")
                        .await?,
                ),
            }
            Ok::<_, anyhow::Error>(due.elapsed())
        });
        if number % 10 == 0 {
            let of = async |client| {
                let name = format!("mongodb_connections_checked_out{{client=\"{client}\"}}");
                service.metric(&name).await
            };
            for_requests = for_requests.max(of("requests").await?);
            for_streams = for_streams.max(of("live").await?);
        }
    }
    let mut times = Times::new(3)?;
    while let Some(took) = done.join_next().await {
        times.record(micros(took??))?;
    }
    Ok(Requests {
        times,
        of_its_client: for_requests,
        of_the_streams_client: for_streams,
    })
}

/// One message at a time to one member who has a stream open.
pub async fn delivery(service: &Service, listeners: &mut Listeners, duration: Duration) -> Result<Delivery> {
    let seller = service.seller()?;
    let mut ticks = ticks(PROBES_PER_SECOND);
    let mut from_sending = Times::new(3)?;
    let mut from_answer = Times::new(3)?;
    let reachable = service.rooms.len().min(listeners.len());
    let begun = Instant::now();
    for number in 0.. {
        ticks.tick().await;
        if begun.elapsed() >= duration {
            break;
        }
        let room = &service.rooms[number % reachable];
        let sent = std::time::Instant::now();
        let body = format!("{PROBE}{number}");
        let (answered, heard) = tokio::join!(
            async {
                seller.send(room, &format!("{sent:?} {number}"), &body).await?;
                Ok::<_, anyhow::Error>(std::time::Instant::now())
            },
            timeout(LOST, listeners.heard(number)),
        );
        let heard = heard
            .ok()
            .flatten()
            .with_context(|| format!("message {number} was not read within {LOST:?}"))?;
        from_sending.record(micros(heard - sent))?;
        from_answer.record(micros(heard.saturating_duration_since(answered?)))?;
    }
    listeners.check()?;
    Ok(Delivery {
        from_sending,
        from_answer,
    })
}

fn ticks(per_second: u32) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
