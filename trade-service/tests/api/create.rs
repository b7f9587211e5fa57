//! `POST /v1/trade-posts`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, Service, sample, token};

#[tokio::test]
async fn a_new_post_is_answered_in_full_and_everybody_can_read_it() {
    let service = Service::start("create_ok").await;
    let created = service.post(7, &sample(&json!({}))).await;
    assert_eq!(created.status, 201);
    let id = created.body["id"].as_i64().unwrap();
    assert_eq!(created.header("location"), format!("/v1/trade-posts/{id}"));

    let mut expected = sample(&json!({
        "id": id, "seller_id": 7, "buyer_id": null, "status": "on_sale", "views": 0, "favorites": 0,
    }));
    for time in ["created_at", "updated_at"] {
        assert!(
            created.body[time].as_str().unwrap().ends_with('Z'),
            "{time} is in UTC"
        );
        expected[time] = created.body[time].clone();
    }
    assert_eq!(created.body, expected);

    let read = service.get(created.header("location")).await;
    assert_eq!((read.status, &read.body), (200, &created.body));
    assert_eq!(read.header("etag"), created.header("etag"));
    assert!(read.header("etag").starts_with('"'), "{}", read.header("etag"));
}

#[tokio::test]
async fn values_at_their_limits_are_stored_as_they_came() {
    let service = Service::start("create_limits").await;
    let images: Vec<_> = (0..10)
        .map(|n| format!("https://i.example/{n}{}", "x".repeat(481)))
        .collect();
    let long = json!({
        "title": "가".repeat(100), "body": "😀".repeat(10_000), "price": 10_000_000_000_i64,
        "category": "가".repeat(50), "image_urls": images,
    });
    let short = json!({"title": "x", "body": "", "price": 0, "category": "x", "image_urls": []});
    // As a client that escapes every character sends it: the largest body there is.
    let escaped = long.to_string().replace('😀', "\\ud83d\\ude00");
    let request = service
        .request(Method::POST, "/v1/trade-posts")
        .bearer_auth(token(7));
    let escaped = Answer::of(request.header("content-type", "application/json").body(escaped)).await;
    for (sent, answer) in [
        (&long, escaped),
        (&long, service.post(7, &long).await),
        (&short, service.post(7, &short).await),
    ] {
        assert_eq!(answer.status, 201, "{}", answer.body);
        for (field, value) in sent.as_object().unwrap() {
            assert_eq!(&answer.body[field], value);
        }
    }
}

#[tokio::test]
async fn every_broken_limit_names_the_field_the_limit_and_what_came() {
    let service = Service::start("create_invalid").await;
    let cases: &[(Value, &str, &str)] = &[
        (
            json!({"title": ""}),
            "title",
            "must have 1 to 100 characters, got 0",
        ),
        (
            json!({"title": "가".repeat(101)}),
            "title",
            "must have 1 to 100 characters, got 101",
        ),
        (
            json!({"title": "a\u{0}b"}),
            "title",
            "must not contain the character U+0000",
        ),
        (
            json!({"title": 7}),
            "title",
            "invalid type: integer `7`, expected a string",
        ),
        (
            json!({"body": "x".repeat(10_001)}),
            "body",
            "must have at most 10000 characters, got 10001",
        ),
        (
            json!({"body": "\u{0}"}),
            "body",
            "must not contain the character U+0000",
        ),
        (json!({"price": -1}), "price", "must be 0 to 10000000000, got -1"),
        (
            json!({"price": 10_000_000_001_i64}),
            "price",
            "must be 0 to 10000000000, got 10000000001",
        ),
        (
            json!({"price": "1"}),
            "price",
            "invalid type: string \"1\", expected i64",
        ),
        (
            json!({"price": 1.5}),
            "price",
            "invalid type: floating point `1.5`, expected i64",
        ),
        (
            json!({"category": ""}),
            "category",
            "must have 1 to 50 characters, got 0",
        ),
        (
            json!({"category": "\u{0}"}),
            "category",
            "must not contain the character U+0000",
        ),
        (
            json!({"seller_id": 8}),
            "seller_id",
            "unknown field `seller_id`, expected one of `title`, `body`, `price`, `category`, `image_urls`",
        ),
    ];
    for (change, field, message) in cases {
        service
            .post(7, &sample(change))
            .await
            .assert_invalid(&[(field, message)]);
    }
    let list = service.get("/v1/trade-posts").await;
    assert_eq!(
        list.body,
        json!({"items": [], "next_cursor": null}),
        "nothing of it was stored"
    );
}

#[tokio::test]
async fn an_image_url_that_is_none_is_named_with_what_is_wrong() {
    let service = Service::start("create_images").await;
    let cases = [
        (
            json!({"image_urls": vec!["https://i.example/"; 11]}),
            "image_urls",
            "must have at most 10 entries, got 11",
        ),
        (
            json!({"image_urls": ["http://i.example/"]}),
            "image_urls[0]",
            "must be an absolute https URL, got `http://i.example/`",
        ),
        (
            json!({"image_urls": ["https://i.example/", "https://i.example/#a\u{1} b"]}),
            "image_urls[1]",
            "must not contain the character U+0023",
        ),
        (
            json!({"image_urls": ["https://me@i.example/"]}),
            "image_urls[0]",
            "must not name a user, got `me@i.example`",
        ),
        (
            json!({"image_urls": ["https://i.example/", 1]}),
            "image_urls[1]",
            "invalid type: integer `1`, expected a string",
        ),
        (
            json!({"image_urls": [format!("https://i.example/{}", "x".repeat(483))]}),
            "image_urls[0]",
            "must have 1 to 500 characters, got 501",
        ),
    ];
    for (change, field, message) in &cases {
        service
            .post(7, &sample(change))
            .await
            .assert_invalid(&[(field, message)]);
    }
}

#[tokio::test]
async fn a_missing_field_is_named_and_broken_limits_all_at_once() {
    let service = Service::start("create_several").await;
    service
        .post(7, &json!({"title": "x"}))
        .await
        .assert_invalid(&[("body", "missing field `body`")]);
    let several = json!({"title": "", "body": "", "price": -5, "category": ""});
    service.post(7, &several).await.assert_invalid(&[
        ("title", "must have 1 to 100 characters, got 0"),
        ("price", "must be 0 to 10000000000, got -5"),
        ("category", "must have 1 to 50 characters, got 0"),
    ]);
}
