//! Every route, called by members of another room and by nobody: the routes are those of the service's
//! document, which is made with them, so that a new one cannot be left out here.

use chat_service::cdc::change_event::{Change, Post};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc, oid::ObjectId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::chat::{Answer, BUYER, Chat, SELLER};

const OTHER_SELLER: i64 = 4;
const OTHER_BUYER: i64 = 5;
const SECRET: &str = "우리 둘만 아는 이야기";

/// What a member of another room is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answers {
    NotThere,
    /// 200, and no word of the room.
    Nothing,
    /// What concerns the caller alone.
    Own(u16),
}

/// A route: what to send, and what somebody else's room answers.
type Route = (Method, &'static str, Value, Answers);

fn routes() -> Vec<Route> {
    use Answers::{NotThere, Nothing, Own};
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let message = json!({ "client_message_id": "1", "body": "끼어들기" });
    vec![
        (get.clone(), "/v1/rooms", Value::Null, Nothing),
        (
            post.clone(),
            "/v1/rooms",
            json!({ "trade_post_id": 10 }),
            Own(201),
        ),
        (get.clone(), "/v1/rooms/{room_id}", Value::Null, NotThere),
        (
            put.clone(),
            "/v1/rooms/{room_id}/read",
            json!({ "up_to": 1 }),
            NotThere,
        ),
        (post.clone(), "/v1/rooms/{room_id}/leave", Value::Null, NotThere),
        (get.clone(), "/v1/rooms/{room_id}/messages", Value::Null, NotThere),
        (post, "/v1/rooms/{room_id}/messages", message, NotThere),
        (
            get.clone(),
            "/v1/trade-posts/{trade_post_id}/rooms",
            Value::Null,
            Nothing,
        ),
        (get.clone(), "/v1/notifications", Value::Null, Nothing),
        (
            put.clone(),
            "/v1/notifications/read",
            json!({ "up_to": 9 }),
            Own(422),
        ),
        (delete.clone(), "/v1/notifications/{seq}", Value::Null, NotThere),
        (put.clone(), "/v1/notifications/{seq}/read", Value::Null, NotThere),
        (get, "/v1/blocks", Value::Null, Nothing),
        (put, "/v1/blocks/{member_id}", Value::Null, Own(204)),
        (delete, "/v1/blocks/{member_id}", Value::Null, Own(204)),
    ]
}

/// Routes that are no members' data, or that have tests of their own: of streams and of the session.
const ELSEWHERE: [(Method, &str); 3] = [
    (Method::GET, "/v1/events"),
    (Method::PUT, "/v1/session"),
    (Method::DELETE, "/v1/session"),
];

/// The routes as the service has them.
fn routes_of_the_document() -> Vec<(Method, String)> {
    let document: Value = serde_json::from_str(&chat_service::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys();
        methods.map(|method| (method.to_uppercase().parse().unwrap(), path.clone()))
    });
    routes.collect()
}

/// What is kept of a room and of what its members were told.
async fn kept(chat: &Chat, room: &str) -> Vec<Document> {
    let id = ObjectId::parse_str(room).unwrap();
    let members = doc! { "$in": [SELLER, BUYER] };
    let mut kept = Vec::new();
    for (collection, filter) in [
        ("rooms", doc! { "_id": id }),
        ("messages", doc! { "room_id": id }),
        ("notifications", doc! { "member_id": &members }),
        ("inboxes", doc! { "_id": &members }),
    ] {
        let collection = chat.store.db.collection::<Document>(collection);
        // A write to an inbox that tells nothing is only there to conflict with others.
        let found = collection.find(filter).projection(doc! { "holds": 0 });
        let found = found.sort(doc! { "_id": 1 }).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        assert!(!found.is_empty(), "{collection:?}");
        kept.extend(found);
    }
    kept
}

#[test]
fn every_route_is_in_the_table() {
    let mut document = routes_of_the_document();
    let mut table: Vec<(Method, String)> = routes()
        .into_iter()
        .map(|(method, path, _, _)| (method, path.to_owned()))
        .chain(ELSEWHERE.map(|(method, path)| (method, path.to_owned())))
        .collect();
    let order = |(method, path): &(Method, String)| (path.clone(), method.to_string());
    document.sort_by_key(order);
    table.sort_by_key(order);
    assert_eq!(document, table);
}

#[tokio::test]
async fn a_room_is_not_there_for_members_of_another_one() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let post = Post {
        seller_id: OTHER_SELLER,
        title: "다른 물건".into(),
        status: "on_sale".into(),
    };
    let other = Change::Upsert {
        lsn: 110,
        arrival: None,
        post,
    };
    chat.capture([(20, 110, other)]).await;
    let (room, other_room) = (chat.room(10).await, chat.room_of(20, OTHER_BUYER).await);
    for place in ["1", "2", "3", "4"] {
        chat.send(BUYER, &room, place, SECRET).await;
    }
    chat.send(OTHER_BUYER, &other_room, "1", "다른 이야기").await;
    let before = kept(&chat, &room).await;
    // The seller's last; nobody in the other room was told as much.
    let told = chat.store.last_seq(SELLER).await.unwrap();
    assert_eq!(told, 5);
    for member in [OTHER_SELLER, OTHER_BUYER] {
        // What writes to the seller's inbox, as it may, comes last.
        let (last, others): (Vec<Route>, Vec<Route>) = routes()
            .into_iter()
            .partition(|(method, path, ..)| (method, *path) == (&Method::POST, "/v1/rooms"));
        for (method, path, body, expected) in others {
            ask(
                &chat,
                member,
                &method,
                path,
                &body,
                expected,
                [&room, &told.to_string()],
            )
            .await;
            assert_eq!(kept(&chat, &room).await, before, "{method} {path} by {member}");
        }
        assert_eq!(last.len(), 1);
    }
    for (method, path, body, expected) in routes() {
        if (&method, path) == (&Method::POST, "/v1/rooms") {
            ask(&chat, OTHER_BUYER, &method, path, &body, expected, [&room, ""]).await;
        }
    }
    // They are no ghosts: in their own room the same is answered.
    for member in [OTHER_SELLER, OTHER_BUYER] {
        let own = chat.get(member, &format!("/v1/rooms/{other_room}")).await;
        assert_eq!(own.status, 200);
        assert!(
            chat.get(member, "/v1/rooms")
                .await
                .body
                .to_string()
                .contains(&other_room)
        );
    }
}

async fn ask(
    chat: &Chat,
    member: i64,
    method: &Method,
    path: &str,
    body: &Value,
    expected: Answers,
    [room, seq]: [&str; 2],
) {
    let path = path
        .replace("{room_id}", room)
        .replace("{trade_post_id}", "10")
        .replace("{seq}", seq)
        .replace("{member_id}", "1");
    let body = Some(body.clone()).filter(|body| !body.is_null());
    let answer = chat.call(member, method.clone(), &path, body).await;
    let asked = format!("{method} {path} by {member}: {answer:?}");
    match expected {
        Answers::NotThere => drop(answer.refused(404, "not-found")),
        Answers::Nothing => assert_eq!(answer.status, 200, "{asked}"),
        Answers::Own(status) => assert_eq!(answer.status, status, "{asked}"),
    }
    let text = answer.body.to_string();
    assert!(!text.contains(SECRET) && !text.contains(room), "{asked}");
}

#[tokio::test]
async fn every_route_wants_a_token() {
    let chat = Chat::start().await;
    let elsewhere = ELSEWHERE.map(|(method, path)| (method, path, Value::Null, Answers::NotThere));
    let routes = routes().into_iter().chain(elsewhere);
    for (method, path, body, _) in routes.filter(|(_, path, ..)| *path != "/v1/session") {
        let path = path
            .replace("{room_id}", "000000000000000000000000")
            .replace("{trade_post_id}", "10")
            .replace("{seq}", "1")
            .replace("{member_id}", "1");
        let request = || {
            chat.http
                .request(method.clone(), format!("{}{path}", chat.base))
                .json(&body)
        };
        for request in [request(), request().bearer_auth("no.token.at-all")] {
            let answer = Answer::of(request).await;
            answer.refused(401, "unauthenticated");
            let challenge = answer.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Bearer"), "{method} {path}");
        }
    }
}
