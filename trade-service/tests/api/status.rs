//! The way of a post from `on_sale` to `sold` and back: `PUT /v1/trade-posts/{id}/buyer`, and `PATCH` of `status`.

use std::sync::Arc;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use trade_service::status::{Status, Step};

use crate::service::{Answer, Service, token};

const SELLER: i64 = 7;

fn path(id: i64) -> String {
    format!("/v1/trade-posts/{id}")
}

#[track_caller]
fn assert_not_open(answer: &Answer, current: &str, detail: &str) {
    let body = json!({
        "type": "urn:marketplace:problem:not-in-this-status", "title": "Not in this status", "status": 409,
        "detail": detail, "current_status": current,
    });
    assert_eq!((answer.status, &answer.body), (409, &body));
}

#[tokio::test]
async fn a_post_is_reserved_for_a_buyer_sold_to_them_and_reopened() {
    let service = Service::start("status_way").await;
    let id = service.new_post(SELLER, &json!({})).await;
    let mut before = service.get_as(SELLER, &path(id)).await;
    for (buyer, status, expected) in [
        (Some(8), None, (json!(8), "reserved")),
        (Some(9), None, (json!(9), "reserved")),
        (Some(9), None, (json!(9), "reserved")),
        (None, Some("reserved"), (json!(9), "reserved")),
        (None, Some("sold"), (json!(9), "sold")),
        (None, Some("sold"), (json!(9), "sold")),
        (None, Some("on_sale"), (Value::Null, "on_sale")),
        (None, Some("on_sale"), (Value::Null, "on_sale")),
        (Some(8), None, (json!(8), "reserved")),
        (None, Some("on_sale"), (Value::Null, "on_sale")),
    ] {
        let answer = match (buyer, status) {
            (Some(buyer), _) => service.choose_buyer(SELLER, id, buyer).await,
            (_, status) => service.patch(SELLER, id, &json!({ "status": status })).await,
        };
        assert_eq!(answer.status, 200, "{}", answer.body);
        let mut after = before.body.clone();
        (after["buyer_id"], after["status"]) = (expected.0, json!(expected.1));
        after["updated_at"] = answer.body["updated_at"].clone();
        assert_eq!(answer.body, after, "nothing else has changed");
        assert_ne!(answer.header("etag"), before.header("etag"));
        before = service.get_as(SELLER, &path(id)).await;
        assert_eq!(
            (&before.body, before.header("etag")),
            (&answer.body, answer.header("etag"))
        );
    }
}

#[tokio::test]
async fn a_step_that_is_not_open_says_where_the_post_is_and_changes_nothing() {
    let service = Service::start("status_illegal").await;
    let id = service.new_post(SELLER, &json!({})).await;
    let unchanged = async |attempt: Answer, current: &str, detail: &str| {
        assert_not_open(&attempt, current, detail);
    };
    let choose_first = "The trade post is on sale. Choose its buyer first: PUT …/buyer.";
    let not_reserved = "The trade post is not reserved. Choose its buyer, which reserves it: PUT …/buyer.";
    let reopen_first =
        "The trade post is sold. Change its status to `on_sale` before you choose another buyer.";
    let before = service.get_as(SELLER, &path(id)).await;
    let sold = json!({ "status": "sold", "title": "not this either" });
    unchanged(service.patch(SELLER, id, &sold).await, "on_sale", choose_first).await;
    let reserved = json!({ "status": "reserved", "price": 1 });
    unchanged(
        service.patch(SELLER, id, &reserved).await,
        "on_sale",
        not_reserved,
    )
    .await;
    let after = service.get_as(SELLER, &path(id)).await;
    assert_eq!(
        (after.body, after.headers["etag"].clone()),
        (before.body, before.headers["etag"].clone())
    );

    assert_eq!(service.choose_buyer(SELLER, id, 8).await.status, 200);
    assert_eq!(
        service
            .patch(SELLER, id, &json!({ "status": "sold" }))
            .await
            .status,
        200
    );
    let before = service.get_as(SELLER, &path(id)).await;
    unchanged(service.choose_buyer(SELLER, id, 9).await, "sold", reopen_first).await;
    unchanged(service.choose_buyer(SELLER, id, 8).await, "sold", reopen_first).await;
    unchanged(service.patch(SELLER, id, &reserved).await, "sold", reopen_first).await;
    assert_eq!(service.get_as(SELLER, &path(id)).await.body, before.body);
}

#[tokio::test]
async fn only_the_seller_chooses_and_nobody_buys_from_themselves() {
    let service = Service::start("status_who").await;
    let id = service.new_post(SELLER, &json!({})).await;
    let before = service.get_as(SELLER, &path(id)).await;
    assert_eq!(service.choose_buyer(8, id, 8).await.status, 403);
    assert_eq!(service.choose_buyer(8, id, SELLER).await.status, 403);
    service
        .choose_buyer(SELLER, id + 1, 8)
        .await
        .assert_no_such_post();
    let own = service.choose_buyer(SELLER, id, SELLER).await;
    own.assert_invalid(&[("buyer_id", "must not be the seller")]);
    let stale = service.choose_buyer_if("\"0\"", SELLER, id, 8).await;
    assert_eq!(stale.status, 412);
    for (body, field, message) in [
        (json!({ "buyer_id": 0 }), "buyer_id", "must be at least 1, got 0"),
        (
            json!({ "buyer_id": -8 }),
            "buyer_id",
            "must be at least 1, got -8",
        ),
        (
            json!({ "buyer_id": "8" }),
            "buyer_id",
            "invalid type: string \"8\", expected i64",
        ),
        (
            json!({ "buyer_id": null }),
            "buyer_id",
            "invalid type: null, expected i64",
        ),
        (json!({}), "buyer_id", "missing field `buyer_id`"),
        (
            json!({ "buyer_id": 8, "price": 1 }),
            "price",
            "unknown field `price`, expected `buyer_id`",
        ),
    ] {
        let request = service.request(Method::PUT, &format!("{}/buyer", path(id)));
        let answer = Answer::of(request.bearer_auth(token(SELLER)).json(&body)).await;
        answer.assert_invalid(&[(field, message)]);
    }
    assert_eq!(service.get_as(SELLER, &path(id)).await.body, before.body);
    let etag = before.header("etag");
    assert_eq!(service.choose_buyer_if(etag, SELLER, id, 8).await.status, 200);
}

#[tokio::test]
async fn whatever_is_tried_the_post_is_where_the_rules_say() {
    let service = Service::start("status_rules").await;
    let step = prop_oneof![
        (8..11_i64).prop_map(Some),
        (0..3_i64).prop_map(|status| Some(-status)),
    ];
    let mut runner = TestRunner::deterministic();
    let attempts = prop::collection::vec(step, 60)
        .new_tree(&mut runner)
        .unwrap()
        .current();
    let id = service.new_post(SELLER, &json!({})).await;
    let (mut status, mut buyer) = (Status::OnSale, None);
    let mut refused = 0;
    for attempt in attempts.into_iter().flatten() {
        let (step, answer) = if attempt > 0 {
            (Step::ChooseBuyer, service.choose_buyer(SELLER, id, attempt).await)
        } else {
            let wanted = Status::ALL[usize::try_from(-attempt).unwrap()];
            let change = json!({ "status": wanted.name() });
            (Step::to(wanted), service.patch(SELLER, id, &change).await)
        };
        if let Some(next) = status.after(step) {
            status = next;
            match step {
                Step::ChooseBuyer => buyer = Some(attempt),
                Step::Reopen => buyer = None,
                Step::StayReserved | Step::Complete => {}
            }
            assert_eq!(answer.status, 200, "{step:?}: {}", answer.body);
        } else {
            refused += 1;
            assert_eq!(
                (answer.status, &answer.body["current_status"]),
                (409, &json!(status.name())),
                "{step:?}"
            );
        }
        let read = service.get_as(SELLER, &path(id)).await.body;
        assert_eq!(
            (&read["status"], &read["buyer_id"]),
            (&json!(status.name()), &json!(buyer))
        );
    }
    assert!(refused > 5, "{refused} were refused");
}

/// Carries out a hundred attempts at once; answers their statuses in the order of their numbers.
async fn a_hundred<F>(service: &Arc<Service>, attempt: impl Fn(Arc<Service>, i64) -> F) -> Vec<u16>
where
    F: Future<Output = u16> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let attempt = attempt(Arc::clone(service), number);
        tasks.spawn(async move { (number, attempt.await) });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_unstable();
    answers.into_iter().map(|(_, status)| status).collect()
}

fn count(answers: &[u16], status: u16) -> usize {
    answers.iter().filter(|answer| **answer == status).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_who_have_seen_the_same_version_one_writes() {
    let service = Arc::new(Service::start("status_hundred").await);
    let id = service.new_post(SELLER, &json!({})).await;
    let etag = service.get_as(SELLER, &path(id)).await.header("etag").to_owned();
    let answers = a_hundred(&service, |service, number| {
        let etag = etag.clone();
        async move {
            service
                .choose_buyer_if(&etag, SELLER, id, 100 + number)
                .await
                .status
        }
    })
    .await;
    assert_eq!(
        (count(&answers, 200), count(&answers, 412)),
        (1, 99),
        "{answers:?}"
    );
    let winner = answers.iter().position(|status| *status == 200).unwrap();
    let read = service.get_as(SELLER, &path(id)).await;
    assert_eq!(read.body["buyer_id"], 100 + i64::try_from(winner).unwrap());

    // Some choose, some change, some delete.
    let etag = read.header("etag").to_owned();
    let answers = a_hundred(&service, |service, number| {
        let etag = etag.clone();
        async move {
            match number % 3 {
                0 => service.choose_buyer_if(&etag, SELLER, id, 300 + number).await,
                1 => {
                    let price = json!({ "price": number });
                    service.patch_if(&etag, SELLER, id, &price).await
                }
                _ => service.delete_if(&etag, SELLER, id).await,
            }
            .status
        }
    })
    .await;
    let won = answers
        .iter()
        .position(|status| matches!(status, 200 | 204))
        .unwrap();
    let others = if won % 3 == 2 { 404 } else { 412 };
    assert_eq!(count(&answers, others), 99, "{answers:?}");
    let read = service.get_as(SELLER, &path(id)).await;
    match won % 3 {
        0 => assert_eq!(read.body["buyer_id"], 300 + i64::try_from(won).unwrap()),
        1 => assert_eq!(read.body["price"], won),
        _ => assert_eq!(read.status, 404),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_expect_nothing_come_one_after_the_other_and_none_after_the_delete() {
    let service = Arc::new(Service::start("status_serial").await);
    let id = service.new_post(SELLER, &json!({})).await;
    // All of them may: the last one stays.
    let answers = a_hundred(&service, |service, number| async move {
        service.choose_buyer(SELLER, id, 100 + number).await.status
    })
    .await;
    assert_eq!(count(&answers, 200), 100, "{answers:?}");
    // Of a hundred deletes in the midst of changes one finds the post.
    let reopened = service.patch(SELLER, id, &json!({ "status": "on_sale" })).await;
    assert_eq!(reopened.status, 200);
    let answers = a_hundred(&service, |service, number| async move {
        if number % 2 == 0 {
            service.delete(SELLER, id).await.status
        } else {
            let change = json!({ "price": number });
            service.patch(SELLER, id, &change).await.status
        }
    })
    .await;
    assert_eq!(count(&answers, 204), 1, "{answers:?}");
    assert_eq!(count(&answers, 200) + count(&answers, 404), 99, "{answers:?}");
    service.get_as(SELLER, &path(id)).await.assert_no_such_post();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_lost_among_those_who_read_before_they_write() {
    let service = Service::start("status_lost").await;
    let id = service.new_post(SELLER, &json!({ "price": 0 })).await;
    let raise = async || loop {
        let read = service.get_as(SELLER, &path(id)).await;
        let price = json!({ "price": read.body["price"].as_i64().unwrap() + 1 });
        let answer = service.patch_if(read.header("etag"), SELLER, id, &price).await;
        match answer.status {
            200 => break,
            412 => {}
            other => panic!("{other}: {}", answer.body),
        }
    };
    join_all((0..25).map(|_| raise())).await;
    assert_eq!(service.get_as(SELLER, &path(id)).await.body["price"], 25);
}
