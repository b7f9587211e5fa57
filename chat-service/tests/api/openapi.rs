//! The OpenAPI document is served, and what is kept of it is what the code says.

use std::{fs, path::Path};

use crate::chat::Chat;

#[test]
fn the_kept_document_is_what_the_code_says() {
    let said = chat_service::openapi();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if fs::read_to_string(&kept).unwrap_or_default() != said {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chat-service-openapi.json");
        fs::write(&new, said).unwrap();
        let (new, kept) = (new.display(), kept.display());
        panic!("the API's document has changed; if that is what you want: cp {new} {kept}");
    }
}

#[tokio::test]
async fn anybody_may_read_the_document() {
    let chat = Chat::start().await;
    let request = chat.http.get(format!("{}/openapi.json", chat.base));
    let answer = request.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    assert_eq!(answer.text().await.unwrap(), chat_service::openapi());
}
