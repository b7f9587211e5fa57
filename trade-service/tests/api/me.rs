//! `GET /v1/me/{posts,purchases,favorites}`.

use reqwest::Method;
use serde_json::{Value, json};
use service_kit::cursor;

use crate::service::{Answer, Service, token};

async fn list(service: &Service, member: i64, name: &str, query: &[(&str, &str)]) -> Answer {
    let request = service
        .request(Method::GET, &format!("/v1/me/{name}"))
        .query(query);
    Answer::of(request.bearer_auth(token(member))).await
}

fn ids(page: &Value) -> Vec<i64> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|post| post["id"].as_i64().unwrap()).collect()
}

/// All pages of two, one after the other.
async fn all(service: &Service, member: i64, name: &str) -> Vec<i64> {
    let (mut read, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut query = vec![("limit", "2")];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page = list(service, member, name, &query).await;
        assert_eq!(page.status, 200, "{}", page.body);
        read.extend(ids(&page.body));
        let Some(next) = page.body["next_cursor"].as_str() else {
            return read;
        };
        assert_eq!(ids(&page.body).len(), 2);
        cursor = Some(next.to_owned());
    }
}

#[tokio::test]
async fn everybody_has_their_own_posts_purchases_and_favorites() {
    let service = Service::start("me_lists").await;
    let mut posts = Vec::new();
    for seller in [1, 1, 1, 2, 2] {
        posts.push(service.new_post(seller, &json!({})).await);
    }
    let [first, second, third, fourth, fifth] = posts[..] else {
        unreachable!()
    };
    for (seller, post, buyer) in [(1, first, 3), (1, third, 3), (2, fourth, 3), (2, fifth, 1)] {
        assert_eq!(service.choose_buyer(seller, post, buyer).await.status, 200);
    }
    assert_eq!(
        service.patch(1, first, &json!({ "status": "sold" })).await.status,
        200
    );
    for post in [fourth, first, fifth, second, third] {
        assert_eq!(service.favorite(Method::PUT, 3, post).await.status, 204);
    }
    for (member, name, expected) in [
        (1, "posts", vec![third, second, first]),
        (2, "posts", vec![fifth, fourth]),
        (3, "posts", vec![]),
        (1, "purchases", vec![fifth]),
        (2, "purchases", vec![]),
        (3, "purchases", vec![fourth, third, first]),
        (3, "favorites", vec![third, second, fifth, first, fourth]),
        (1, "favorites", vec![]),
    ] {
        assert_eq!(all(&service, member, name).await, expected, "{name} of {member}");
        let whole = list(&service, member, name, &[]).await.body;
        assert_eq!((ids(&whole), &whole["next_cursor"]), (expected, &Value::Null));
    }
    // Reopened is not bought, kept again is kept last, deleted is nobody's.
    assert_eq!(
        service
            .patch(1, third, &json!({ "status": "on_sale" }))
            .await
            .status,
        200
    );
    assert_eq!(service.delete_if("*", 2, fourth).await.status, 204);
    assert_eq!(service.favorite(Method::DELETE, 3, first).await.status, 204);
    assert_eq!(service.favorite(Method::PUT, 3, first).await.status, 204);
    assert_eq!(all(&service, 3, "purchases").await, [first]);
    assert_eq!(all(&service, 3, "favorites").await, [first, third, second, fifth]);
    assert_eq!(all(&service, 2, "posts").await, [fifth]);
    let page = list(&service, 3, "favorites", &[("limit", "1")]).await.body;
    let read = service.get_as(1, &format!("/v1/trade-posts/{first}")).await.body;
    assert_eq!(page["items"], json!([read]), "a list shows whole posts");
}

#[tokio::test]
async fn a_page_goes_on_where_it_ended_while_favorites_come_and_go() {
    let service = Service::start("me_cursor").await;
    let mut kept = Vec::new();
    for _ in 0..6 {
        let post = service.new_post(1, &json!({})).await;
        assert_eq!(service.favorite(Method::PUT, 2, post).await.status, 204);
        kept.insert(0, post);
    }
    let first = list(&service, 2, "favorites", &[("limit", "2")]).await.body;
    assert_eq!(ids(&first), kept[..2]);
    // The one that the cursor stands on, one behind it, and a new one before it.
    for post in [kept[1], kept[3]] {
        assert_eq!(service.favorite(Method::DELETE, 2, post).await.status, 204);
    }
    let new = service.new_post(1, &json!({})).await;
    assert_eq!(service.favorite(Method::PUT, 2, new).await.status, 204);
    let next = first["next_cursor"].as_str().unwrap();
    let second = list(&service, 2, "favorites", &[("cursor", next)]).await.body;
    assert_eq!(ids(&second), [kept[2], kept[4], kept[5]]);
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let service = Service::start("me_invalid").await;
    let not_a_cursor = "is not a cursor of this list; pass `next_cursor` of the previous page with the same sort, or nothing";
    for name in ["posts", "purchases", "favorites"] {
        for (query, field, message) in [
            (("limit", "0"), "limit", "must be 1 to 100, got 0"),
            (("limit", "101"), "limit", "must be 1 to 100, got 101"),
            (("cursor", "x"), "cursor", not_a_cursor),
            (
                ("member", "1"),
                "member",
                "unknown field `member`, expected `cursor` or `limit`",
            ),
        ] {
            let answer = list(&service, 7, name, &[query]).await;
            answer.assert_invalid(&[(field, message)]);
        }
    }
    let of_posts = cursor::encode(&json!({ "newest": ["2026-01-01T00:00:00Z", 1] }));
    let of_favorites = cursor::encode(&json!({ "favorite": ["2026-01-01T00:00:00Z", 1] }));
    for (name, fine, other) in [
        ("posts", &of_posts, &of_favorites),
        ("favorites", &of_favorites, &of_posts),
    ] {
        assert_eq!(list(&service, 7, name, &[("cursor", fine)]).await.status, 200);
        let answer = list(&service, 7, name, &[("cursor", other)]).await;
        answer.assert_invalid(&[("cursor", not_a_cursor)]);
    }
}
