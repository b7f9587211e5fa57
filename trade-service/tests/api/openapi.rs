//! The OpenAPI document is served, and what is kept of it is what the code says.

use std::fs;
use std::path::Path;

use crate::service::Service;

#[test]
fn the_kept_document_is_what_the_code_says() {
    let said = trade_service::openapi();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if fs::read_to_string(&kept).unwrap_or_default() != said {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trade-service-openapi.json");
        fs::write(&new, said).unwrap();
        let (new, kept) = (new.display(), kept.display());
        panic!("the API's document has changed; if that is what you want: cp {new} {kept}");
    }
}

#[tokio::test]
async fn anybody_may_read_the_document() {
    let service = Service::start("openapi").await;
    let answer = service
        .request(reqwest::Method::GET, "/openapi.json")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    assert_eq!(answer.text().await.unwrap(), trade_service::openapi());
}

#[tokio::test]
async fn anybody_may_look_at_it_in_a_browser() {
    let service = Service::start("openapi_page").await;
    let answer = service
        .request(reqwest::Method::GET, "/docs")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(answer.text().await.unwrap().contains("docs/page.js"));
}
