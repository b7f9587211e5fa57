//! Keys of tokens change, and tokens end, while the service runs.

use std::time::Duration;

use local_stack::tokens::Signer;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::chat::{Answer, BUYER, Chat, eventually};

/// Puts the keys of these signers into the file that the service reads.
fn publish(chat: &Chat, signers: &[&Signer]) {
    let sets = signers.iter().map(|signer| signer.jwks_json());
    let sets = sets.map(|set| serde_json::from_str::<Value>(&set).unwrap());
    let keys: Vec<Value> = sets.map(|set| set["keys"][0].clone()).collect();
    std::fs::write(chat.signer.jwks_path(), json!({ "keys": keys }).to_string()).unwrap();
}

async fn get(chat: &Chat, path: &str, token: &str) -> Answer {
    Answer::of(chat.http.get(format!("{}{path}", chat.base)).bearer_auth(token)).await
}

#[tokio::test]
async fn a_key_rotates_without_a_restart() {
    let chat = Chat::start().await;
    let folder = tempfile::tempdir().unwrap();
    let new = Signer::open_or_create(folder.path()).unwrap();
    let old_token = chat.token(BUYER);
    let new_token = new.token(BUYER, Duration::from_mins(5)).unwrap();
    let answers = async |token: &str, status: StatusCode| {
        let answer = get(&chat, "/v1/rooms", token).await;
        (answer.status == status).then_some(())
    };
    assert!(answers(&old_token, StatusCode::OK).await.is_some());
    get(&chat, "/v1/rooms", &new_token)
        .await
        .refused(401, "unauthenticated");

    publish(&chat, &[&chat.signer, &new]);
    eventually("the new key is taken", async || {
        answers(&new_token, StatusCode::OK).await
    })
    .await;
    assert!(answers(&old_token, StatusCode::OK).await.is_some());

    publish(&chat, &[&new]);
    eventually("the old key is refused", async || {
        answers(&old_token, StatusCode::UNAUTHORIZED).await
    })
    .await;
    assert!(answers(&new_token, StatusCode::OK).await.is_some());
}

/// Within the leeway it is taken for a request; a stream would end with it at once, and its reader come
/// back at once.
#[tokio::test]
async fn a_token_that_has_just_expired_opens_no_stream() {
    let chat = Chat::start().await;
    let expired = chat.signer.token(BUYER, Duration::ZERO).unwrap();
    assert_eq!(get(&chat, "/v1/rooms", &expired).await.status, 200);
    let refused = get(&chat, "/v1/events", &expired).await;
    refused.refused(401, "unauthenticated");
    assert_eq!(refused.body["detail"], "The token has expired.");
}
