//! Members keep keywords at trade-service and are told by chat-service of new posts that have them: once,
//! whatever is killed or read again meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use chat_service::store::posts::PostState;
use e2e::{
    eventually::{eventually, eventually_is},
    reader::Reader,
    world::{World, stop},
};
use local_stack::{client::Notification, services};
use mongodb::bson::doc;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    BOUND,
    again::{consumed, has_passed, snapshot},
    new_post,
};

const SELLER: i64 = 1;
const WAITS: i64 = 2;
const FORGETS: i64 = 3;

/// Has Debezium read the table again while it goes on.
const SNAPSHOT: &str = r#"INSERT INTO debezium_signal VALUES
    ('again', 'execute-snapshot', '{"data-collections": ["public.keywords"], "type": "incremental"}')"#;
const MIGRATION: &str = include_str!("../../trade-service/migrations/0010_keywords.sql");

/// Keeps a keyword and answers its id.
async fn keep(world: &World, member: i64, keyword: &str) -> i64 {
    let request = world.member(member).trade(Method::POST, "/v1/me/keywords");
    let answer = request.json(&json!({ "keyword": keyword })).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap()
}

async fn forget(world: &World, member: i64, id: i64) {
    let path = format!("/v1/me/keywords/{id}");
    let answer = world
        .member(member)
        .trade(Method::DELETE, &path)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
}

/// Waits until chat-service has so many keywords that somebody waits for.
async fn waiting(world: &World, count: u64) {
    eventually_is("keywords", BOUND, count, async || {
        let live = doc! { "gram": { "$exists": true } };
        world.store.keywords.count_documents(live).await.unwrap()
    })
    .await;
}

fn matched(told: &[Notification]) -> Vec<(i64, &str, Option<&str>)> {
    let told = told.iter().filter(|told| told.kind == "trade_post_matched");
    told.map(|told| {
        let keyword = told.keyword.as_deref().unwrap();
        (told.trade_post_id, keyword, told.title.as_deref())
    })
    .collect()
}

/// Waits until the member was told of so many posts.
async fn told(reader: &Reader, count: usize) -> Vec<Notification> {
    eventually("the member is told", BOUND, async || {
        let seen = reader.seen();
        if matched(&seen).len() >= count {
            Ok(seen)
        } else {
            Err(seen.len())
        }
    })
    .await
}

async fn execute(world: &World, statement: &'static str) {
    sqlx::query(statement).execute(&world.sql).await.unwrap();
}

/// Emptying one table leaves what was captured of the other.
async fn each_table_is_emptied_alone(world: &World) {
    let posts = doc! { "state": "live" };
    let there = world.store.posts.count_documents(posts.clone()).await.unwrap();
    execute(world, "TRUNCATE keywords").await;
    waiting(world, 0).await;
    assert_eq!(
        world.store.posts.count_documents(posts.clone()).await.unwrap(),
        there
    );
    keep(world, FORGETS, "책상").await;
    execute(world, "TRUNCATE trade_posts CASCADE").await;
    eventually_is("posts", BOUND, 0, async || {
        world.store.posts.count_documents(posts.clone()).await.unwrap()
    })
    .await;
    waiting(world, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_post_is_told_to_who_keeps_a_keyword_of_its_title() {
    World::run(async |world| {
        let seller = world.member(SELLER);
        let reader = Reader::start(&world.member(WAITS)).await;
        let before = seller.create_post(&new_post("예전 자전거")).await.unwrap().id;
        world.known(&[before], BOUND).await;
        // The topic of keywords is made by the first, and the post may be read before it.
        keep(world, WAITS, "자전거").await;
        let helmet = keep(world, WAITS, "헬멧").await;
        let bike = keep(world, FORGETS, "Road Bike").await;
        let post = seller
            .create_post(&new_post("로드 자전거 팔아요"))
            .await
            .unwrap()
            .id;
        let first = told(&reader, 1).await;
        assert_eq!(matched(&first), [(post, "자전거", Some("로드 자전거 팔아요"))]);

        forget(world, FORGETS, bike).await;
        forget(world, WAITS, helmet).await;
        waiting(world, 1).await;
        seller.create_post(&new_post("ROAD BIKE 헬멧")).await.unwrap();
        let own = world
            .member(WAITS)
            .create_post(&new_post("내 자전거"))
            .await
            .unwrap()
            .id;
        // The row of a post goes to another id, which makes no new post.
        sqlx::query("UPDATE trade_posts SET id = 100000 WHERE id = $1")
            .bind(own)
            .execute(&world.sql)
            .await
            .unwrap();
        seller
            .patch_post(before, &json!({ "title": "자전거 아니에요" }))
            .await
            .unwrap();
        let last = seller.create_post(&new_post("접이식 자전거")).await.unwrap().id;
        let second = told(&reader, 2).await;
        let folding = (last, "자전거", Some("접이식 자전거"));
        assert_eq!(
            matched(&second),
            [(post, "자전거", Some("로드 자전거 팔아요")), folding]
        );
        assert_eq!(world.store.last_seq(FORGETS).await.unwrap(), 0);

        // Both topics are read again, by a group that has read nothing.
        seller.delete_post(post).await.unwrap();
        eventually_is("the post's state", BOUND, PostState::Deleted, async || {
            world.store.post(post).await.unwrap().unwrap().state
        })
        .await;
        consumed(world, &world.name).await;
        let told_before = snapshot(world).await;
        stop(&world.chat).await;
        let group = format!("{}_replay", world.name);
        let options = world.chat_options().env("KAFKA_GROUP_ID", &group);
        world.chat = services::spawn_chat(world.stack, options).await.unwrap();
        consumed(world, &group).await;
        has_passed(&world.keywords_topic(), &group).await;
        eventually_is("posts to be matched", BOUND, 0, async || {
            world.store.posts_to_match().await.unwrap()
        })
        .await;
        assert_eq!(snapshot(world).await, told_before, "a replay tells nobody");

        // What was passed over is read once more, and changes go on after it.
        let ends = async || world.keywords_topic().end_offsets().await.values().sum::<i64>();
        let before = ends().await;
        execute(world, SNAPSHOT).await;
        eventually("the table is read again", BOUND, async || {
            let now = ends().await;
            if now > before { Ok(()) } else { Err(now) }
        })
        .await;
        keep(world, FORGETS, "의자").await;
        waiting(world, 2).await;

        each_table_is_emptied_alone(world).await;
        let shown = world.member(WAITS).chat(Method::GET, "/v1/notifications");
        let shown: Value = shown.send().await.unwrap().json().await.unwrap();
        let titles = shown["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item.get("title"));
        assert_eq!(titles.collect::<Vec<_>>(), [None, None], "the posts are gone");

        // As when a connector that lists the table was there before it: nobody has let Debezium read it, and no
        // snapshot comes.
        execute(world, "DROP TABLE keywords").await;
        sqlx::raw_sql(MIGRATION).execute(&world.sql).await.unwrap();
        keep(world, WAITS, "의자").await;
        let chair = seller.create_post(&new_post("의자")).await.unwrap().id;
        // From its first event, at the process that runs now.
        let third = told(&Reader::start(&world.member(WAITS)).await, 3).await;
        assert_eq!(matched(&third).last(), Some(&(chair, "의자", Some("의자"))));
        assert_eq!(world.count("dead_letters").await, 0);
        let complaints = world.logged(&world.chat, &["UnknownTopicOrPartition"]);
        assert!(complaints.is_empty(), "{complaints:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_while_members_are_told_tells_nobody_twice_and_misses_nobody() {
    const MEMBERS: i64 = 40;
    const POSTS: i64 = 300;
    World::run(async |world| {
        let keywords = "INSERT INTO keywords (member_id, keyword, place)
                        SELECT 1000 + m, CASE p WHEN 1 THEN '글 ' ELSE '글 ' || m END, p
                        FROM generate_series(1, $1) m, generate_series(1, 2) p";
        sqlx::query(keywords)
            .bind(MEMBERS)
            .execute(&world.sql)
            .await
            .unwrap();
        let insert = "INSERT INTO trade_posts (seller_id, title, body, price, category)
                      SELECT 1000 + 1 + n % 3, '글 ' || n, '본문', n, '기타' FROM generate_series(1, $1) n
                      RETURNING id, seller_id";
        let posts: Vec<(i64, i64)> = sqlx::query_as(insert)
            .bind(POSTS)
            .fetch_all(&world.sql)
            .await
            .unwrap();
        let expected: BTreeMap<i64, BTreeSet<i64>> = (1001..=1000 + MEMBERS)
            .map(|member| {
                let others = posts.iter().filter(|(_, seller)| *seller != member);
                (member, others.map(|(post, _)| *post).collect())
            })
            .collect();
        let all: usize = expected.values().map(BTreeSet::len).sum();
        for part in 1..=2 {
            let some = u64::try_from(MEMBERS * POSTS).unwrap() * part / 4;
            eventually("some are told", BOUND, async || {
                let told = world.store.notifications.count_documents(doc! {}).await.unwrap();
                if told > some { Ok(()) } else { Err(told) }
            })
            .await;
            world.chat.server.kill().unwrap();
            world.end_transactions().await;
            let told = world.store.notifications.count_documents(doc! {}).await.unwrap();
            println!("killed when {told} of {all} were told");
            assert!(part > 1 || told < all as u64, "it was killed in between");
            world.chat.server.restart().await.unwrap();
        }
        // Longer than what a killed process had begun at the last moment may be open.
        eventually_is("notifications", BOUND, all as u64, async || {
            world.store.notifications.count_documents(doc! {}).await.unwrap()
        })
        .await;
        eventually_is("posts to be matched", BOUND, 0, async || {
            world.store.posts_to_match().await.unwrap()
        })
        .await;
        for (member, posts) in [1001, 1002, 1000 + MEMBERS].map(|member| (member, &expected[&member])) {
            // Also that its numbers have no gap.
            let reader = Reader::start(&world.member(member)).await;
            let seen = told(&reader, posts.len()).await;
            let told: Vec<i64> = matched(&seen).iter().map(|(post, ..)| *post).collect();
            assert_eq!(told.len(), posts.len(), "each once");
            assert_eq!(&BTreeSet::from_iter(told), posts);
        }
    })
    .await;
}
