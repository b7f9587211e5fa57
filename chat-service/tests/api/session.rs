//! The session cookie of browsers: how it is got, what it opens, and from where.

use reqwest::{Method, RequestBuilder};

use crate::chat::{Answer, BUYER, Chat, SELLER};

const NAME: &str = "__Secure-session";
const PAGE: &str = "https://market.example";
const SAME_ORIGIN: (&str, &str) = ("sec-fetch-site", "same-origin");

async fn start() -> Chat {
    Chat::start_with(&["--session-cookie", NAME, "--allowed-origin", PAGE]).await
}

fn request(chat: &Chat, method: Method, path: &str) -> RequestBuilder {
    chat.http.request(method, format!("{}{path}", chat.base))
}

/// `name=value` and the attributes of the cookie that the answer sets.
fn set_cookie(answer: &Answer) -> (String, Vec<String>) {
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    let mut parts = cookie.split("; ").map(str::to_owned);
    (parts.next().unwrap(), parts.collect())
}

/// What the browser of `member` sends as `Cookie`.
async fn log_in(chat: &Chat, member: i64) -> String {
    let answer = chat.call(member, Method::PUT, "/v1/session", None).await;
    assert_eq!(answer.status, 204);
    set_cookie(&answer).0
}

#[tokio::test]
async fn a_page_hands_its_token_over_and_reads_the_stream() {
    let chat = start().await;
    let request_from = |origin: &str| {
        request(&chat, Method::PUT, "/v1/session")
            .bearer_auth(chat.token(SELLER))
            .header("origin", origin)
    };
    let answer = Answer::of(request_from(PAGE)).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["access-control-allow-origin"], PAGE);
    assert_eq!(answer.headers["access-control-allow-credentials"], "true");
    let (pair, attributes) = set_cookie(&answer);
    assert!(pair.starts_with(&format!("{NAME}=ey")), "{pair}");
    let (age, rest): (Vec<_>, Vec<_>) = attributes.iter().partition(|a| a.starts_with("Max-Age="));
    assert_eq!(rest, ["Path=/v1/events", "HttpOnly", "Secure", "SameSite=Strict"]);
    let age: u64 = age[0]["Max-Age=".len()..].parse().unwrap();
    assert!((240..=300).contains(&age), "as long as the token: {age}");

    for proof in [SAME_ORIGIN, ("origin", PAGE)] {
        let stream = request(&chat, Method::GET, "/v1/events")
            .header("cookie", &pair)
            .header(proof.0, proof.1);
        let mut stream = stream.send().await.unwrap();
        assert_eq!(stream.status(), 200, "{proof:?}");
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        // It is the stream of the member who logged in.
        let post = if proof == SAME_ORIGIN { 10 } else { 11 };
        chat.on_sale(post, 100 + post).await;
        let room = chat.room(post).await;
        let mut text = String::new();
        while !text.contains("event: room_created") {
            text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
        }
        assert!(text.contains(&room), "{text}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_gets_nothing_with_the_cookie() {
    let chat = start().await;
    let cookie = log_in(&chat, BUYER).await;
    let get = || request(&chat, Method::GET, "/v1/events").header("cookie", &cookie);
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("accept", "text/event-stream"),
    ] {
        let answer = Answer::of(get().header(name, value)).await;
        answer.refused(403, "origin-not-allowed");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    // A token proves by itself whose request it is.
    let with_token = get()
        .bearer_auth(chat.token(BUYER))
        .header("origin", "https://evil.example");
    assert_eq!(with_token.send().await.unwrap().status(), 200);
    let with_bad_token = get()
        .bearer_auth("no.token.at-all")
        .header(SAME_ORIGIN.0, SAME_ORIGIN.1);
    Answer::of(with_bad_token).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn the_cookie_opens_the_stream_alone() {
    let chat = start().await;
    let cookie = log_in(&chat, BUYER).await;
    let with_cookie = |method: Method, path: &str, cookie: &str| {
        request(&chat, method, path)
            .header("cookie", cookie)
            .header(SAME_ORIGIN.0, SAME_ORIGIN.1)
    };
    for (method, path) in [
        (Method::GET, "/v1/rooms"),
        (Method::POST, "/v1/rooms"),
        (Method::GET, "/v1/notifications"),
        (Method::PUT, "/v1/session"),
        (Method::HEAD, "/v1/events"),
    ] {
        let answer = with_cookie(method.clone(), path, &cookie).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{method} {path}");
    }
    for wrong in [
        format!("{NAME}="),
        format!("{NAME}=no.token.at-all"),
        format!("{cookie}x"),
        cookie.replace(NAME, "session"),
    ] {
        let answer = Answer::of(with_cookie(Method::GET, "/v1/events", &wrong)).await;
        answer.refused(401, "unauthenticated");
    }
    let token = cookie.split_once('=').unwrap().1;
    for name in ["token", "access_token", NAME] {
        let path = format!("/v1/events?{name}={token}");
        Answer::of(request(&chat, Method::GET, &path))
            .await
            .refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_session_ends_when_the_browser_is_told_so() {
    let chat = start().await;
    let answer = Answer::of(request(&chat, Method::DELETE, "/v1/session")).await;
    assert_eq!(answer.status, 204);
    let (pair, attributes) = set_cookie(&answer);
    assert_eq!(pair, format!("{NAME}="));
    assert_eq!(
        attributes,
        [
            "Path=/v1/events",
            "Max-Age=0",
            "HttpOnly",
            "Secure",
            "SameSite=Strict"
        ]
    );
    let nobody = Answer::of(request(&chat, Method::PUT, "/v1/session")).await;
    nobody.refused(401, "unauthenticated");
    assert!(!nobody.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn a_token_that_browsers_would_not_keep_is_refused() {
    let name = "s".repeat(4000);
    let chat = Chat::start_with(&["--session-cookie", &name]).await;
    let answer = chat.call(BUYER, Method::PUT, "/v1/session", None).await;
    answer.refused(422, "invalid-input");
    assert_eq!(answer.body["errors"][0]["field"], "authorization");
    assert!(answer.body.to_string().contains("4096"), "{answer:?}");
}

#[tokio::test]
async fn without_a_name_there_are_no_sessions() {
    let chat = Chat::start().await;
    for method in [Method::PUT, Method::DELETE] {
        let answer = chat.call(BUYER, method, "/v1/session", None).await;
        answer.refused(404, "not-found");
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    let get = request(&chat, Method::GET, "/v1/events")
        .header("cookie", format!("{NAME}={}", chat.token(BUYER)))
        .header(SAME_ORIGIN.0, SAME_ORIGIN.1);
    Answer::of(get).await.refused(401, "unauthenticated");
}
