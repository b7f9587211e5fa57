//! Event streams while posts are deleted: a reader who comes back, and a service that is told to end.

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use e2e::{eventually::eventually, world::World};
use futures_util::{StreamExt, future::join_all, stream};
use local_stack::{client::Notification, progress::Progress, services};
use rand::random_range;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Command, time::timeout};

use crate::{BOUND, chat_about, insert_posts};

const SELLER: i64 = 1;
const BUYER: i64 = 2;
const POSTS: i64 = 60;
const STREAMS: i64 = 20;
const STREAM_ENDS_WITHIN: Duration = Duration::from_secs(1);
const PROCESS_ENDS_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_comes_back_misses_nothing_and_reads_nothing_twice() {
    World::run(async |world| {
        let posts = insert_posts(world, SELLER, POSTS, "doomed").await;
        world.known(&posts, BOUND).await;
        let rooms: BTreeSet<String> = stream::iter(posts.clone())
            .map(async |post| chat_about(world, post, BUYER, 0).await)
            .buffer_unordered(4)
            .collect()
            .await;
        let seller = world.member(SELLER);
        let mut stream = seller.events(None).await.unwrap();
        // The first frame tells where the reader is, so that coming back misses nothing.
        stream.next_frame().await.unwrap().unwrap();
        assert_eq!(stream.last_id(), Some(POSTS));

        let deleting = async {
            for post in &posts {
                seller.delete_post(*post).await.unwrap();
            }
        };
        let reading = async {
            let mut read = Vec::new();
            while read.len() < rooms.len() {
                for _ in 0..random_range(0..4) {
                    if read.len() < rooms.len() {
                        let Ok(event) = timeout(BOUND, stream.next()).await else {
                            let (written, closed) =
                                tokio::join!(world.store.last_seq(SELLER), world.deletions());
                            panic!(
                                "no event after {:?} in {BOUND:?}; written: {written:?}, {closed:?}",
                                stream.last_id()
                            );
                        };
                        read.push(event.unwrap().expect("the stream goes on"));
                    }
                }
                stream.reconnect().await.unwrap();
            }
            read
        };
        let ((), read) = tokio::join!(deleting, reading);

        let ids: Vec<i64> = read.iter().map(|event| event.id).collect();
        assert_eq!(
            ids,
            (POSTS + 1..=2 * POSTS).collect::<Vec<_>>(),
            "each once and in order"
        );
        assert!(read.iter().all(|event| event.name == "room_closed"), "{read:?}");
        let told = read
            .iter()
            .map(|event| event.json::<Notification>().unwrap().room_id);
        assert_eq!(told.collect::<BTreeSet<_>>(), rooms);

        // Who comes back much later reads the same.
        let mut late = seller.events(Some(POSTS)).await.unwrap();
        for event in &read {
            let again = timeout(BOUND, late.next())
                .await
                .expect("an event in time")
                .unwrap()
                .unwrap();
            assert_eq!((again.id, &again.data), (event.id, &event.data));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_at_once_and_the_process_exits_well_when_it_is_told_to() {
    World::run(async |world| {
        // Beside the world's own instance; started here to see how it exits.
        let options = world.chat_options();
        let programs = services::programs(&Progress::for_tests()).await.unwrap();
        let mut process = Command::new(&programs.chat_service)
            .envs(&options.env)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let [url, admin] = ["LISTEN", "ADMIN_LISTEN"].map(|name| format!("http://{}", options.env[name]));
        let ready = format!("{admin}/readyz");
        eventually("the instance is ready", BOUND, async || {
            reqwest::get(&ready).await?.error_for_status()
        })
        .await;
        let streams = (1..=STREAMS).map(async |member| {
            let app = world.member(member).at_chat(&url, &admin);
            let mut stream = app.events(None).await.unwrap();
            stream.next_frame().await.unwrap().expect("the opening frame");
            stream
        });
        let streams = join_all(streams).await;

        let pid = i32::try_from(process.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let told = Instant::now();
        join_all(streams.into_iter().map(async |mut stream| {
            let ended = timeout(STREAM_ENDS_WITHIN, stream.next())
                .await
                .expect("the stream ends in time");
            assert!(ended.expect("the stream is ended in order").is_none());
        }))
        .await;
        println!("{STREAMS} streams ended after {:?}", told.elapsed());
        let exit = timeout(PROCESS_ENDS_WITHIN, process.wait())
            .await
            .expect("the process ends in time");
        println!("the process exited after {:?}", told.elapsed());
        assert!(exit.as_ref().unwrap().success(), "{exit:?}");
    })
    .await;
}
