//! Open streams hold no database connection. Once, ten streams emptied a pool of ten and stopped a whole
//! service; here 2,000 are open on a pool of ten, and requests do not notice.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, future::join, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    chat::{BUYER, Chat, SELLER, eventually},
    events::{next, open},
};

const STREAMS: i64 = 2000;
/// Two of a stream's connection, as client and server are one process here, and some.
const FILES: u64 = 5000;
const REQUESTS: usize = 200;
/// Not even on a slow machine does a request take so long, unless it waits for a connection.
const BOUND: Duration = Duration::from_secs(10);

fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= FILES) {
        return;
    }
    let raised = Rlimit {
        current: Some(FILES),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("`ulimit -Hn` allows 5000 open files");
}

/// Opens a stream of every member and waits for its first frame.
async fn open_all(chat: &Chat) -> Vec<TcpStream> {
    stream::iter(1000..1000 + STREAMS)
        .map(async |member| {
            let address = chat.base.strip_prefix("http://").unwrap();
            let mut connection = TcpStream::connect(address).await?;
            let token = chat.token(member);
            let request = format!(
                "GET /v1/events HTTP/1.1\r\nhost: chat\r\nauthorization: Bearer {token}\r\nlast-event-id: 0\r\n\r\n"
            );
            connection.write_all(request.as_bytes()).await?;
            let mut seen = Vec::new();
            while !seen.windows(5).any(|text| text == b"\nid: ") {
                assert_ne!(connection.read_buf(&mut seen).await?, 0, "{}", String::from_utf8_lossy(&seen));
            }
            Ok::<_, std::io::Error>(connection)
        })
        .buffer_unordered(200)
        .try_collect()
        .await
        .unwrap()
}

/// Requests until `stop`, and at least some. Answers how long each took, sorted.
async fn requests(chat: &Chat, room: &str, stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while took.len() < REQUESTS || !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let number = took.len();
        let answer = match number % 3 {
            0 => chat.get(BUYER, "/v1/rooms").await,
            1 => chat.get(BUYER, &format!("/v1/rooms/{room}/messages")).await,
            _ => {
                chat.send(BUYER, room, &format!("{begun:?} {number}"), "네고 되나요?")
                    .await
            }
        };
        assert!(answer.status.is_success(), "{answer:?}");
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took
}

/// MongoDB connections in use, by the client they belong to.
async fn checked_out(chat: &Chat, client: &str) -> i64 {
    let metrics = chat.metrics().await;
    let name = format!("mongodb_connections_checked_out{{client=\"{client}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.expect("the metric is there").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_do_not_notice_2000_open_streams_on_a_pool_of_ten() {
    allow_files();
    let mongodb = local_stack::testing::mongo().await.uri();
    let separator = if mongodb.contains('?') { '&' } else { '?' };
    let chat = Chat::start_at(&format!("{mongodb}{separator}maxPoolSize=10"), &[]).await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let stop = AtomicBool::new(true);
    let without = requests(&chat, &room, &stop).await;

    // While all of them come at once, as after a restart of the instance they were at.
    stop.store(false, Ordering::Relaxed);
    let opening = async {
        let open = open_all(&chat).await;
        stop.store(true, Ordering::Relaxed);
        open
    };
    let (streams, during) = join(opening, requests(&chat, &room, &stop)).await;
    assert_eq!(streams.len(), usize::try_from(STREAMS).unwrap());
    let with = requests(&chat, &room, &stop).await;
    for (when, took) in [("without", without), ("while they open", during), ("with", with)] {
        let (median, longest) = (took[took.len() / 2], *took.last().unwrap());
        println!(
            "{when}: {} requests, median {median:?}, longest {longest:?}",
            took.len()
        );
        assert!(longest < BOUND, "{when}: {longest:?}");
    }

    // Nobody asks for anything: streams alone use none, the change stream one.
    eventually("no connection is in use", async || {
        (checked_out(&chat, "requests").await == 0).then_some(())
    })
    .await;
    assert!(
        checked_out(&chat, "live").await <= 2,
        "the change stream, and a sweep now and then"
    );

    // All of them live: what is told to one comes at once.
    let mut seller = open(&chat, SELLER, None).await;
    let sent = chat.send(BUYER, &room, "the last", "마지막").await;
    let told = timeout(BOUND, next(&mut seller)).await.unwrap();
    assert_eq!(
        (told.1.as_str(), &told.2["message"]["seq"]),
        ("message", &sent.body["seq"])
    );
    drop(streams);
}
