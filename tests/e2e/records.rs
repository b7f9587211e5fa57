//! What Debezium really writes, read beside chat-service: with the committed reader schemas, and byte by byte.

use std::collections::{BTreeMap, BTreeSet};

use chat_service::cdc::change_event::{Change, ChangeEvent, Event, Post};
use e2e::{
    eventually::eventually,
    records::{WriterSchemas, schema_ids},
    topic::{Record, Topic},
    world::World,
};
use serde_json::{Value as Json, json};

use crate::BOUND;

/// The schemas that the records were written with, as the registry has them.
pub async fn writer_schemas(world: &World, records: &[Record]) -> (WriterSchemas, Vec<(u32, String)>) {
    let mut schemas = WriterSchemas::default();
    let mut texts = Vec::new();
    for id in records.iter().flat_map(schema_ids).collect::<BTreeSet<_>>() {
        let url = format!("{}/schemas/ids/{id}", world.stack.registry.confluent_url());
        let answer: Json = reqwest::get(url).await.unwrap().json().await.unwrap();
        let text = answer["schema"].as_str().unwrap();
        schemas.insert(id, text);
        texts.push((id, text.to_owned()));
    }
    (schemas, texts)
}

/// Waits until the topic has `count` records, and answers them in the order in which they were written.
async fn records(topic: &Topic, count: i64) -> Vec<Record> {
    eventually("the topic has all records", BOUND, async || {
        let ends = topic.end_offsets().await;
        if ends.values().sum::<i64>() >= count {
            Ok(())
        } else {
            Err(ends)
        }
    })
    .await;
    topic.read().await
}

/// What may not leave the database: text, and numbers that are nowhere else.
const BODY: &str = "비밀 본문";
const CATEGORY: &str = "비밀 분류";
const IMAGE_URL: &str = "https://images.example/secret.jpg";
const PRICE: i64 = 9_876_543_210;
const BUYER: i64 = 7_777_777_777;
const SELLER: i64 = 4_321;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_records_fit_the_committed_schemas_and_hold_nothing_but_the_captured_columns() {
    World::run(async |world| {
        let seller = world.member(SELLER);
        let post = json!({
            "title": "자전거", "body": BODY, "price": PRICE, "category": CATEGORY, "image_urls": [IMAGE_URL],
        });
        let by_rest = seller.create_post(&post).await.unwrap().id;
        seller.choose_buyer(by_rest, BUYER).await.unwrap();
        seller
            .patch_post(by_rest, &json!({ "body": format!("{BODY} 둘") }))
            .await
            .unwrap();
        seller.delete_post(by_rest).await.unwrap();
        let by_sql: i64 = sqlx::query_scalar(
            "INSERT INTO trade_posts (seller_id, title, body, price, category, image_urls)
             VALUES ($1, '헬멧', $2, $3, $4, ARRAY[$5]) RETURNING id",
        )
        .bind(SELLER)
        .bind(BODY)
        .bind(PRICE)
        .bind(CATEGORY)
        .bind(IMAGE_URL)
        .fetch_one(&world.sql)
        .await
        .unwrap();
        for statement in [
            "UPDATE trade_posts SET buyer_id = 7777777777, status = 'sold' WHERE id = $1",
            "DELETE FROM trade_posts WHERE id = $1",
        ] {
            sqlx::query(statement)
                .bind(by_sql)
                .execute(&world.sql)
                .await
                .unwrap();
        }

        let records = records(&world.topic(), 9).await;
        let (schemas, _) = writer_schemas(world, &records).await;
        let mut seen: BTreeMap<i64, Vec<Option<Post>>> = BTreeMap::new();
        let mut lsns: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for record in &records {
            let event = schemas.by_chat_service(record).unwrap();
            assert_eq!(event, schemas.by_committed_schemas(record));
            let Event::Post(ChangeEvent {
                trade_post_id,
                change,
                ..
            }) = event
            else {
                panic!("{event:?}")
            };
            let (lsn, row) = match change {
                Change::Upsert { lsn, post, .. } => (Some(lsn), Some(post)),
                Change::Delete { lsn, .. } => (Some(lsn), None),
                Change::Tombstone => (None, None),
                Change::Move { .. } => panic!("{change:?}"),
            };
            seen.entry(trade_post_id).or_default().push(row);
            lsns.entry(trade_post_id).or_default().extend(lsn);
        }
        let row = |title: &str, status: &str| {
            Some(Post {
                seller_id: SELLER,
                title: title.into(),
                status: status.into(),
            })
        };
        let (bike, reserved) = (row("자전거", "on_sale"), row("자전거", "reserved"));
        assert_eq!(seen[&by_rest], [bike, reserved.clone(), reserved, None, None]);
        assert_eq!(
            seen[&by_sql],
            [row("헬멧", "on_sale"), row("헬멧", "sold"), None, None]
        );
        assert!(
            lsns.values().all(|lsns| lsns.is_sorted_by(|a, b| a < b)),
            "each post's LSNs rise: {lsns:?}"
        );

        the_same_around_a_snapshot(world).await;
        nothing_else_has_left(world).await;
    })
    .await;
}

/// Rows that an incremental snapshot reads, and what the log brings behind it.
async fn the_same_around_a_snapshot(world: &World) {
    let add = "INSERT INTO trade_posts (seller_id, buyer_id, title, body, price, category, image_urls)
                   VALUES ($1, $2, '안장', $3, $4, $5, ARRAY[$6]) RETURNING id";
    let insert = async || -> i64 {
        let insert = sqlx::query_scalar(add).bind(SELLER).bind(BUYER).bind(BODY);
        let insert = insert.bind(PRICE).bind(CATEGORY).bind(IMAGE_URL);
        insert.fetch_one(&world.sql).await.unwrap()
    };
    let read = insert().await;
    sqlx::query(
            r#"INSERT INTO debezium_signal VALUES
               ('again', 'execute-snapshot', '{"data-collections": ["public.trade_posts"], "type": "incremental"}')"#,
        )
        .execute(&world.sql)
        .await
        .unwrap();
    records(&world.topic(), 11).await;
    let behind = insert().await;
    let all = records(&world.topic(), 12).await;
    let (schemas, _) = writer_schemas(world, &all).await;
    let later = all.iter().filter_map(|record| {
        let event = schemas.by_chat_service(record).unwrap();
        assert_eq!(event, schemas.by_committed_schemas(record));
        match event {
            Event::Post(ChangeEvent {
                trade_post_id,
                change: Change::Upsert { post, arrival, .. },
                ..
            }) if post.title == "안장" => Some(((trade_post_id, arrival.is_none()), post)),
            _ => None,
        }
    });
    let saddle = Post {
        seller_id: SELLER,
        title: "안장".into(),
        status: "on_sale".into(),
    };
    let expected = [(read, false), (read, true), (behind, false)].map(|which| (which, saddle.clone()));
    assert_eq!(later.collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
}

/// Looks for it in every byte of every topic of the world, and in the text of every schema.
async fn nothing_else_has_left(world: &World) {
    let topics = world.topic().all_like(&world.name).await;
    assert!(
        topics.iter().any(|topic| topic.name == world.topic().name),
        "{topics:?}"
    );
    let secrets = [
        BODY.as_bytes().to_vec(),
        CATEGORY.into(),
        IMAGE_URL.into(),
        zigzag(PRICE),
        zigzag(BUYER),
    ];
    for topic in topics {
        for record in topic.read().await {
            let headers = record.headers.iter().filter_map(|(_, value)| value.clone());
            let bytes: Vec<u8> = [record.key, record.value]
                .into_iter()
                .flatten()
                .chain(headers)
                .flatten()
                .collect();
            for secret in &secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret);
                assert!(!found, "{secret:?} is in {} at {}", topic.name, record.offset);
            }
        }
    }
    let registry = world.stack.registry.confluent_url();
    let get = async |path: String| -> Json {
        reqwest::get(format!("{registry}/{path}"))
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    };
    let subjects = get("subjects".into()).await;
    let subjects = subjects
        .as_array()
        .unwrap()
        .iter()
        .map(|subject| subject.as_str().unwrap());
    let own: Vec<&str> = subjects.filter(|subject| subject.contains(&world.name)).collect();
    assert!(own.len() >= 2, "{own:?}");
    for subject in own {
        for version in get(format!("subjects/{subject}/versions"))
            .await
            .as_array()
            .unwrap()
        {
            let schema = get(format!("subjects/{subject}/versions/{version}")).await;
            let schema = schema["schema"].as_str().unwrap();
            for column in [
                "body",
                "price",
                "buyer",
                "image",
                "category",
                "created_at",
                "updated_at",
            ] {
                assert!(!schema.contains(column), "{column} is in {subject}: {schema}");
            }
        }
    }
}

/// A long as Avro writes it.
fn zigzag(number: i64) -> Vec<u8> {
    apache_avro::writer::datum::GenericDatumWriter::builder(&apache_avro::Schema::Long)
        .build()
        .and_then(|writer| writer.write_value_to_vec(number))
        .unwrap()
}
