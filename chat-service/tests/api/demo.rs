//! The demo page: where it is, and what browsers are told about it. What it does in one is in the
//! browser tests.

use chat_service::{config::Config, http::demo::Demo};
use clap::Parser;
use reqwest::Response;
use serde_json::{Value, json};

use crate::chat::Chat;

const FILES: [(&str, &str); 5] = [
    ("/demo", "text/html"),
    ("/demo/demo.css", "text/css"),
    ("/demo/demo.js", "text/javascript"),
    ("/demo/api.js", "text/javascript"),
    ("/demo/dom.js", "text/javascript"),
];
const MEMBERS: &str = "/demo/members.json";

async fn get(chat: &Chat, path: &str) -> Response {
    let request = chat.http.get(format!("{}{path}", chat.base));
    request.send().await.unwrap()
}

#[tokio::test]
async fn there_is_no_demo_unless_it_is_asked_for() {
    let chat = Chat::start_with(&["--session-cookie", "session"]).await;
    for path in FILES.map(|(path, _)| path).into_iter().chain([MEMBERS]) {
        let answer = get(&chat, path).await;
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn the_page_is_given_with_a_policy_that_lets_nothing_else_run() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let members = json!([{ "name": "구매자", "token": "a.b.c" }]);
    std::fs::write(&file, members.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    let chat = Chat::start_with(&["--session-cookie", "session", "--demo", path]).await;
    for (path, kind) in FILES {
        let answer = get(&chat, path).await;
        assert_eq!(answer.status(), 200, "{path}");
        let headers = answer.headers();
        assert_eq!(headers["content-type"], format!("{kind}; charset=utf-8"));
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let policy = headers["content-security-policy"].to_str().unwrap();
        let mut directives = policy.split("; ");
        assert_eq!(directives.next(), Some("default-src 'none'"));
        assert!(
            directives.clone().any(|one| one == "script-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains("://"), "{path} refers to nothing elsewhere");
    }
    let answer = get(&chat, MEMBERS).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.json::<Value>().await.unwrap(), members);
}

#[test]
fn a_demo_that_could_not_work_is_refused_at_the_start() {
    let without_cookie = Config::try_parse_from(["chat-service", "--demo", "members.json"]);
    let message = without_cookie.unwrap_err().to_string();
    assert!(message.contains("--session-cookie"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("members.json");
    let refusal = || format!("{:#}", Demo::load(&file).unwrap_err());
    assert!(refusal().contains("could not be read"), "{}", refusal());
    std::fs::write(&file, r#"[{"name": "구매자"}]"#).unwrap();
    assert!(refusal().contains("missing field `token`"), "{}", refusal());
}
