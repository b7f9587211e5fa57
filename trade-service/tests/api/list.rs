//! `GET /v1/trade-posts`.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use service_kit::cursor;

use crate::service::{Answer, Service};

/// The answer to `/v1/trade-posts` with these parameters, percent-encoded.
async fn list(service: &Service, query: &[(&str, &str)]) -> Answer {
    Answer::of(service.request(Method::GET, "/v1/trade-posts").query(query)).await
}

async fn ids(service: &Service, query: &[(&str, &str)]) -> Vec<i64> {
    let answer = list(service, query).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    page_ids(&answer.body)
}

fn page_ids(page: &Value) -> Vec<i64> {
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|post| post["id"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn filters_and_search_show_exactly_what_matches() {
    let service = Service::start("list_filters").await;
    let desk = service
        .new_post(1, &json!({"title": "원목 책상", "body": "거실용", "price": 100}))
        .await;
    let chair = service
        .new_post(
            2,
            &json!({"title": "의자", "body": "Desk와 세트", "price": 200, "category": "의자"}),
        )
        .await;
    let phone = service
        .new_post(
            2,
            &json!({"title": "100% 새 폰_A", "body": r"C:\x", "price": 300, "category": "전자"}),
        )
        .await;
    assert_eq!(service.choose_buyer(2, phone, 9).await.status, 200);
    assert_eq!(
        service.patch(2, phone, &json!({"status": "sold"})).await.status,
        200
    );
    // Of the same popularity, the later one comes first.
    for (member, post) in [(3, desk), (4, desk), (3, phone)] {
        assert_eq!(service.favorite(Method::PUT, member, post).await.status, 204);
    }

    for (query, expected) in [
        (vec![], vec![phone, chair, desk]),
        (vec![("q", "책상")], vec![desk]),
        (vec![("q", "상")], vec![desk]),
        (vec![("q", "의자")], vec![chair]),
        (vec![("q", "원목 책상")], vec![desk]),
        (vec![("q", "dESK")], vec![chair]),
        (vec![("q", "100%")], vec![phone]),
        (vec![("q", "%")], vec![phone]),
        (vec![("q", "_")], vec![phone]),
        (vec![("q", r":\x")], vec![phone]),
        (vec![("q", "'; DROP TABLE trade_posts; --")], vec![]),
        (vec![("category", "의자")], vec![chair]),
        (vec![("category", "의")], vec![]),
        (vec![("status", "sold")], vec![phone]),
        (vec![("status", "on_sale")], vec![chair, desk]),
        (vec![("seller_id", "2")], vec![phone, chair]),
        (vec![("seller_id", "3")], vec![]),
        (vec![("min_price", "200")], vec![phone, chair]),
        (vec![("max_price", "200")], vec![chair, desk]),
        (vec![("min_price", "101"), ("max_price", "299")], vec![chair]),
        (vec![("min_price", "300"), ("max_price", "100")], vec![]),
        (
            vec![("seller_id", "2"), ("status", "on_sale"), ("q", "세트")],
            vec![chair],
        ),
        (vec![("sort", "price_asc")], vec![desk, chair, phone]),
        (vec![("sort", "price_desc")], vec![phone, chair, desk]),
        (vec![("sort", "newest")], vec![phone, chair, desk]),
        (vec![("sort", "popular")], vec![desk, phone, chair]),
        (vec![("sort", "popular"), ("seller_id", "2")], vec![phone, chair]),
        (vec![("sort", "popular"), ("q", "의자")], vec![chair]),
    ] {
        assert_eq!(ids(&service, &query).await, expected, "{query:?}");
    }
    let page = list(&service, &[("q", "책상")]).await.body;
    let read = service.get(&format!("/v1/trade-posts/{desk}")).await.body;
    assert_eq!(
        page,
        json!({"items": [read], "next_cursor": null}),
        "a list shows whole posts"
    );
}

#[tokio::test]
async fn a_word_finds_and_is_found_however_it_was_composed() {
    let service = Service::start("list_composed").await;
    // With single letters, as some systems type or name their files.
    let (bike, decomposed) = (
        "자전거",
        "\u{110c}\u{1161}\u{110c}\u{1165}\u{11ab}\u{1100}\u{1165}",
    );
    let title = service.new_post(1, &json!({"title": decomposed})).await;
    let body = service
        .new_post(1, &json!({"body": bike, "category": decomposed}))
        .await;
    for q in [bike, decomposed] {
        assert_eq!(ids(&service, &[("q", q)]).await, [body, title], "{q}");
        assert_eq!(ids(&service, &[("category", q)]).await, [body], "{q}");
    }
    let read = service.get(&format!("/v1/trade-posts/{title}")).await.body;
    assert_eq!(read["title"], bike);
    let (fits, long) = ("\u{1100}\u{1161}".repeat(100), "\u{1100}\u{1161}".repeat(101));
    assert_eq!(ids(&service, &[("q", &fits)]).await, [] as [i64; 0]);
    list(&service, &[("q", &long)])
        .await
        .assert_invalid(&[("q", "must have 1 to 100 characters, got 101")]);
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let service = Service::start("list_invalid").await;
    let not_a_cursor = "is not a cursor of this list; pass `next_cursor` of the previous page with the same sort, or nothing";
    let long = "가".repeat(101);
    for (query, field, message) in [
        (("limit", "0"), "limit", "must be 1 to 100, got 0"),
        (("limit", "101"), "limit", "must be 1 to 100, got 101"),
        (("limit", "-1"), "limit", "must be 1 to 100, got -1"),
        (
            ("limit", "many"),
            "limit",
            "must be a whole number from 1 to 100, got \"many\"",
        ),
        (
            ("min_price", "1e400"),
            "min_price",
            "must be a whole number from 0 to 10000000000, got \"1e400\"",
        ),
        (("q", ""), "q", "must have 1 to 100 characters, got 0"),
        (("q", &long), "q", "must have 1 to 100 characters, got 101"),
        (("q", "\0"), "q", "must not contain the character U+0000"),
        (
            ("category", "\0"),
            "category",
            "must not contain the character U+0000",
        ),
        (
            ("min_price", "-1"),
            "min_price",
            "must be 0 to 10000000000, got -1",
        ),
        (
            ("max_price", "10000000001"),
            "max_price",
            "must be 0 to 10000000000, got 10000000001",
        ),
        (
            ("seller_id", "me"),
            "seller_id",
            "must be a whole number from 1 to 9223372036854775807, got \"me\"",
        ),
        (
            ("sort", "cheapest"),
            "sort",
            "unknown variant `cheapest`, expected one of `newest`, `price_asc`, `price_desc`, `popular`",
        ),
        (
            ("status", "gone"),
            "status",
            "unknown variant `gone`, expected one of `on_sale`, `reserved`, `sold`",
        ),
        (("cursor", "x"), "cursor", not_a_cursor),
        (("cursor", ""), "cursor", not_a_cursor),
        (
            ("page", "2"),
            "page",
            "unknown field `page`, expected one of `q`, `category`, `status`, `seller_id`, `min_price`, \
             `max_price`, `sort`, `cursor`, `limit`",
        ),
    ] {
        list(&service, &[query]).await.assert_invalid(&[(field, message)]);
    }
    for _ in 0..2 {
        service.new_post(7, &json!({})).await;
    }
    let newest = list(&service, &[("limit", "1")]).await.body["next_cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let other_sort = list(&service, &[("cursor", newest.as_str()), ("sort", "price_asc")]).await;
    other_sort.assert_invalid(&[("cursor", not_a_cursor)]);
}

#[tokio::test]
async fn a_cursor_that_somebody_made_up_is_read_or_refused() {
    let service = Service::start("list_made_up").await;
    // PostgreSQL has no times before 4714 BC, and what it refuses would be a failure.
    for (time, status) in [
        ("-262143-01-01T00:00:00Z", 422),
        ("-4800-01-01T00:00:00Z", 422),
        ("1970-01-01T00:00:00Z", 200),
        ("+262142-12-31T23:59:59Z", 200),
    ] {
        let made = cursor::encode(&json!({"newest": [time, 1]}));
        assert_eq!(
            list(&service, &[("cursor", &made)]).await.status,
            status,
            "{time}"
        );
    }
}

#[tokio::test]
async fn a_page_holds_twenty_posts_unless_asked_otherwise() {
    let service = Service::start("list_default").await;
    for _ in 0..21 {
        service.new_post(7, &json!({})).await;
    }
    assert_eq!(ids(&service, &[]).await.len(), 20);
    assert_eq!(ids(&service, &[("limit", "100")]).await.len(), 21);
    let exactly = list(&service, &[("limit", "21")]).await.body;
    assert_eq!(
        exactly["next_cursor"],
        Value::Null,
        "a full last page has no next one"
    );
}

#[tokio::test]
async fn reading_on_neither_repeats_nor_misses_while_posts_come_and_go() {
    for sort in ["newest", "price_asc", "price_desc", "popular"] {
        let service = Service::start(&format!("list_cursor_{sort}")).await;
        // Few prices, so that pages end between posts of the same price.
        let mut there = Vec::new();
        for n in 0..40 {
            let id = service.new_post(1, &json!({"price": n % 3})).await;
            if n % 4 == 0 {
                assert_eq!(service.favorite(Method::PUT, 5, id).await.status, 204);
            }
            there.push(id);
        }
        let mut stay: BTreeSet<i64> = there.iter().copied().collect();
        let (mut seen, mut cursor) = (Vec::<i64>::new(), None::<String>);
        loop {
            let mut query = vec![("limit", "7"), ("sort", sort)];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page = list(&service, &query).await.body;
            let read = page_ids(&page);
            seen.extend(read.iter().copied());
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = Some(next.to_owned());
            assert_eq!(read.len(), 7);
            // The post that the cursor stands on goes, one behind it goes, and new ones come everywhere.
            let behind = there
                .iter()
                .rev()
                .find(|id| !seen.contains(id) && stay.contains(id))
                .copied();
            for gone in [Some(read[6]), behind].into_iter().flatten() {
                assert_eq!(service.delete(1, gone).await.status, 204);
                stay.remove(&gone);
            }
            for price in 0..3 {
                service.new_post(1, &json!({"price": price})).await;
            }
        }
        let distinct: BTreeSet<i64> = seen.iter().copied().collect();
        assert_eq!(distinct.len(), seen.len(), "{sort}: nothing twice");
        assert!(
            stay.is_subset(&distinct),
            "{sort}: what was there throughout is read"
        );
        if sort == "newest" {
            let old: BTreeSet<i64> = there.iter().copied().collect();
            assert!(
                distinct.is_subset(&old),
                "what is newer than the first page stays out"
            );
        }
    }
}
