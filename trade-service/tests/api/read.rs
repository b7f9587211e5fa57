//! `GET /v1/trade-posts/{id}`.

use serde_json::json;

use crate::service::Service;

#[tokio::test]
async fn a_post_that_never_was_or_is_gone_is_404() {
    let service = Service::start("read_gone").await;
    for id in ["1", "0", "-1", "9223372036854775807"] {
        service
            .get(&format!("/v1/trade-posts/{id}"))
            .await
            .assert_no_such_post();
    }
    let id = service.new_post(7, &json!({})).await;
    assert_eq!(service.get(&format!("/v1/trade-posts/{id}")).await.status, 200);
    assert_eq!(service.delete(7, id).await.status, 204);
    service
        .get(&format!("/v1/trade-posts/{id}"))
        .await
        .assert_no_such_post();
}

#[tokio::test]
async fn an_id_that_is_no_number_is_named() {
    let service = Service::start("read_bad_id").await;
    for id in ["x", "1.5", "9223372036854775808"] {
        let answer = service.get(&format!("/v1/trade-posts/{id}")).await;
        answer.assert_invalid(&[("id", &format!("expected i64, got `{id}`"))]);
    }
}
