//! Text and cursors that somebody made to break something: each is stored as it came, but composed,
//! or refused by name.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reqwest::Method;
use serde_json::json;
use service_kit::cursor;
use unicode_normalization::UnicodeNormalization;

use crate::service::{Answer, Service, sample, token};

const TEXTS: [&str; 16] = [
    "😀👨‍👩‍👧‍👦🇰🇷",
    "\u{202e}gnp.exe\u{202c}",
    "\u{200f}عربى\u{200f}",
    "\u{feff}bom",
    "'; DROP TABLE trade_posts; --",
    "\" OR 1=1; --",
    "$1 $2 %s %d {0} ${jndi:ldap://x}",
    r"\\ \x00 \u0000 \'",
    "<script>alert(1)</script>&amp;",
    "e\u{301}\u{301}\u{301}\u{301}",
    "ｆｕｌｌ　ｗｉｄｔｈ",
    "\u{1}\u{8}\u{b}\u{1b}[31m\u{7f}\u{85}",
    "\t\r\n x \u{2028}\u{2029}",
    "\u{10ffff}\u{fffe}\u{e000}",
    "%_\\%",
    "null",
];

fn nfc(text: &str) -> String {
    text.nfc().collect()
}

#[tokio::test]
async fn any_text_is_kept_as_it_came_and_found_again() {
    let service = Service::start("hostile_text").await;
    for text in TEXTS {
        let sent = sample(&json!({ "title": text, "body": text, "category": text }));
        let created = service.post(7, &sent).await;
        assert_eq!(created.status, 201, "{text:?}: {}", created.body);
        let id = created.body["id"].as_i64().unwrap();
        let changed = service.patch(7, id, &json!({ "body": text.repeat(2) })).await;
        let (composed, twice) = (nfc(text), nfc(&text.repeat(2)));
        assert_eq!((changed.status, &changed.body["body"]), (200, &json!(twice)));
        let read = service.get_as(7, created.header("location")).await.body;
        assert_eq!(
            (&read["title"], &read["category"]),
            (&json!(composed), &json!(composed))
        );
        for (name, value) in [("q", text), ("category", text)] {
            let found = service
                .request(Method::GET, "/v1/trade-posts")
                .query(&[(name, value)]);
            let found = Answer::of(found).await;
            assert_eq!(found.status, 200, "{text:?}: {}", found.body);
            let ids: Vec<_> = found.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|post| &post["id"])
                .collect();
            assert!(ids.contains(&&json!(id)), "{text:?} by {name}: {ids:?}");
        }
    }
}

#[tokio::test]
async fn a_nul_is_refused_wherever_it_stands() {
    let service = Service::start("hostile_nul").await;
    let id = service.new_post(7, &json!({})).await;
    let nul = "must not contain the character U+0000";
    for text in ["\0", "a\0b", "😀\0"] {
        for field in ["title", "body", "category"] {
            let change = json!({ field: text });
            service
                .post(7, &sample(&change))
                .await
                .assert_invalid(&[(field, nul)]);
            service
                .patch(7, id, &change)
                .await
                .assert_invalid(&[(field, nul)]);
        }
        for field in ["q", "category"] {
            let list = service
                .request(Method::GET, "/v1/trade-posts")
                .query(&[(field, text)]);
            Answer::of(list).await.assert_invalid(&[(field, nul)]);
        }
        let url = json!({ "image_urls": [format!("https://i.example/{text}")] });
        assert_eq!(service.post(7, &sample(&url)).await.status, 422);
        assert_eq!(service.patch(7, id, &url).await.status, 422);
    }
    for path in [
        "/v1/trade-posts/%00",
        "/v1/trade-posts/1%00/buyer",
        "/v1/trade-posts?cursor=%00",
    ] {
        assert!((400..500).contains(&service.get(path).await.status), "{path}");
    }
}

#[tokio::test]
async fn a_number_that_is_too_long_is_told_its_limits() {
    let service = Service::start("hostile_long_numbers").await;
    let id = service.new_post(7, &json!({})).await;
    let price = |came: &str| format!("must be 0 to 10000000000, got {came}");
    for long in ["10000000000000000000", "99999999999999999999", "1e400", "-1e400"] {
        let new = sample(&json!({"price": 1})).to_string();
        let new = new.replace("\"price\":1", &format!("\"price\":{long}"));
        let change = format!("{{\"price\": {long}}}");
        for (method, path, body) in [
            (Method::POST, "/v1/trade-posts".to_owned(), new),
            (Method::PATCH, format!("/v1/trade-posts/{id}"), change),
        ] {
            let request = service.request(method, &path).bearer_auth(token(7));
            let request = request.header("content-type", "application/json").body(body);
            Answer::of(request)
                .await
                .assert_invalid(&[("price", &price(long))]);
        }
    }
    for long in [
        "10000000000000000000",
        "99999999999999999999",
        "-99999999999999999999",
    ] {
        for field in ["min_price", "max_price"] {
            let list = service.get(&format!("/v1/trade-posts?{field}={long}")).await;
            list.assert_invalid(&[(field, &price(long))]);
        }
        let limit = format!("must be 1 to 100, got {long}");
        let own = format!("/v1/me/posts?limit={long}");
        service.get_as(7, &own).await.assert_invalid(&[("limit", &limit)]);
        let list = service.get(&format!("/v1/trade-posts?limit={long}")).await;
        list.assert_invalid(&[("limit", &limit)]);
    }
}

#[tokio::test]
async fn ids_and_numbers_at_the_edges_are_answered() {
    let service = Service::start("hostile_numbers").await;
    let id = service.new_post(7, &json!({})).await;
    for edge in [i64::MIN, -1, 0, i64::MAX] {
        service
            .get(&format!("/v1/trade-posts/{edge}"))
            .await
            .assert_no_such_post();
        service.favorite(Method::PUT, 8, edge).await.assert_no_such_post();
        service
            .favorite(Method::DELETE, 8, edge)
            .await
            .assert_no_such_post();
        service.choose_buyer(7, edge, 8).await.assert_no_such_post();
        service.delete(7, edge).await.assert_no_such_post();
        let expected = if edge > 0 { 200 } else { 422 };
        assert_eq!(service.choose_buyer(7, id, edge).await.status, expected, "{edge}");
        let list = service.get(&format!("/v1/trade-posts?seller_id={edge}")).await;
        assert_eq!(list.status, 200, "{edge}");
    }
    let newest = i64::MAX;
    assert_eq!(
        service.get_as(newest, "/v1/me/purchases").await.body["items"][0]["id"],
        id
    );
}

/// What could be in a cursor's place: valid ones that were changed, forged ones, and no cursors at all.
fn cursors() -> impl Strategy<Value = String> {
    let number = prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), Just(0)];
    let time = prop::sample::select(vec![
        "2026-11-25T00:00:00Z",
        "-262143-01-01T00:00:00Z",
        "-4800-01-01T00:00:00Z",
        "+262142-12-31T23:59:59Z",
        "1969-12-31T23:59:59.999999999Z",
        "2016-12-31T23:59:60Z",
        "infinity",
        "",
    ]);
    let of_time = prop::sample::select(vec!["newest", "favorite"]);
    let of_number = prop::sample::select(vec!["price_asc", "price_desc", "popular"]);
    let kind = prop_oneof![of_time.clone(), of_number.clone(), Just("other")];
    let key = prop_oneof![
        time.clone().prop_map(|time| json!(time)),
        number.clone().prop_map(|key| json!(key))
    ];
    let forged = prop_oneof![
        2 => (of_time, time.prop_map(|time| json!(time)), number.clone()),
        3 => (of_number, number.clone().prop_map(|key| json!(key)), number.clone()),
        1 => (kind, key, number),
    ]
    .prop_map(|(kind, key, id)| cursor::encode(&json!({ kind: [key, id] })));
    let mangled =
        (forged.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(cursor, at, byte)| {
            let mut bytes = cursor.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            String::from_utf8_lossy(&bytes).into_owned()
        });
    let cut = (forged.clone(), any::<prop::sample::Index>())
        .prop_map(|(cursor, at)| cursor[..at.index(cursor.len())].to_owned());
    prop_oneof![4 => forged, 3 => mangled, 2 => cut, 1 => any::<String>()]
}

#[tokio::test]
async fn a_cursor_is_read_or_refused_and_shows_nothing_that_its_list_would_not() {
    let service = Service::start("hostile_cursor").await;
    for seller in [7, 8] {
        for _ in 0..3 {
            let id = service.new_post(seller, &json!({})).await;
            assert_eq!(service.favorite(Method::PUT, seller, id).await.status, 204);
        }
    }
    let mut runner = TestRunner::deterministic();
    let lists = [
        "/v1/trade-posts?seller_id=7&sort=newest",
        "/v1/trade-posts?seller_id=7&sort=price_asc",
        "/v1/trade-posts?seller_id=7&sort=price_desc",
        "/v1/trade-posts?seller_id=7&sort=popular",
        "/v1/me/posts?limit=100",
        "/v1/me/purchases?limit=100",
        "/v1/me/favorites?limit=100",
    ];
    let (mut read, mut refused) = (0, 0);
    for _ in 0..80 {
        let cursor = cursors().new_tree(&mut runner).unwrap().current();
        for list in lists {
            let request = service.request(Method::GET, list).query(&[("cursor", &cursor)]);
            let answer = Answer::of(request.bearer_auth(token(7))).await;
            match answer.status {
                200 => {
                    read += 1;
                    for post in answer.body["items"].as_array().unwrap() {
                        assert_eq!(post["seller_id"], 7, "{list} {cursor:?}");
                    }
                }
                422 => {
                    refused += 1;
                    assert_eq!(answer.body["errors"][0]["field"], "cursor", "{list} {cursor:?}");
                }
                other => panic!("{other} to {list} {cursor:?}: {}", answer.body),
            }
        }
    }
    assert!(read > 20 && refused > 20, "{read} read, {refused} refused");
}
