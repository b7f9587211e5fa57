//! The OpenAPI document is served, and what is kept of it is what the code says.

use std::{fs, path::Path};

use crate::chat::Chat;

#[test]
fn the_kept_documents_are_what_the_code_says() {
    for (file, said) in [
        ("openapi.json", chat_service::openapi()),
        ("openapi-operators.json", chat_service::operators_openapi()),
    ] {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        if fs::read_to_string(&kept).unwrap_or_default() != said {
            let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chat-service-{file}"));
            fs::write(&new, said).unwrap();
            let (new, kept) = (new.display(), kept.display());
            panic!("the API's document has changed; if that is what you want: cp {new} {kept}");
        }
    }
}

#[tokio::test]
async fn anybody_may_read_the_documents() {
    let chat = Chat::start().await;
    for (base, said) in [
        (&chat.base, chat_service::openapi()),
        (&chat.admin, chat_service::operators_openapi()),
    ] {
        let request = chat.http.get(format!("{base}/openapi.json"));
        let answer = request.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"application/json".parse().unwrap())
        );
        assert_eq!(answer.text().await.unwrap(), said);
    }
}
