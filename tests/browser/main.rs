//! The services' pages in real browsers: on the demo members sign in, chat, are cut off and come back, and see
//! their room close when its post is deleted; `/docs` shows the documents of the APIs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "figures for whoever runs the tests with --nocapture"
)]
use std::time::Instant;

use e2e::world::{World, stop};
use local_stack::services::{self, Service};
use mongodb::bson::doc;
use serde_json::{Value, json};

use crate::{
    chromium::Chromium,
    page::{BOUND, Page, new_profile},
};

mod chromium;
mod page;

const SELLER: i64 = 1;
const BUYER: i64 = 2;
const MEMBERS: [(&str, i64); 2] = [("판매자", SELLER), ("구매자", BUYER)];
const TITLE: &str = "자전거 팔아요 🚲";

/// A post of the seller that chat-service knows.
async fn post(world: &World) -> i64 {
    let post = json!({ "title": TITLE, "body": "거의 새것", "price": 150_000, "category": "sports" });
    let post = world.member(SELLER).create_post(&post).await.unwrap().id;
    world.known(&[post], BOUND).await;
    post
}

/// Opens the demo in a browser of its own and signs in.
async fn signed_in<'a>(browser: &'a Chromium, address: &str, name: &str) -> Page<'a> {
    let profile = new_profile(browser).await.unwrap();
    let page = Page::open(browser, &profile, address).await.unwrap();
    page.click(name).await;
    page
}

/// The buyer writes about the post, and the seller answers with what looks like markup. Answers what both see.
async fn chat(seller: &Page<'_>, buyer: &Page<'_>, post: i64) -> Vec<String> {
    const QUESTION: &str = "안녕하세요 🙂 아직 있나요?";
    const MARKUP: &str = "<script>window.run = 1</script><img src=x onerror='window.run = 2'><b>네</b>";
    buyer.type_into("Number of a trade post", &post.to_string()).await;
    buyer.click("Write to its seller").await;
    buyer.shows("room-title", TITLE).await;
    buyer.type_into("Message", &format!("{QUESTION}\n")).await;
    seller.shows("rooms", "1 unread").await;
    buyer.last_is("Sent").await;
    seller.click(TITLE).await;
    buyer.last_is("Read").await;

    seller.type_into("Message", MARKUP).await;
    seller.click("Send").await;
    let told = vec![QUESTION.to_owned(), MARKUP.to_owned()];
    for page in [seller, buyer] {
        page.shows_messages(&told).await;
        let made = "[window.run ?? 0, document.querySelectorAll('#messages :is(script, img, b)').length]";
        assert_eq!(page.evaluate(made).await.unwrap(), json!([0, 0]));
    }
    told
}

/// The service of the pages is killed and comes back, twice: while the seller writes by another instance, and
/// while the buyer writes on the page. Afterwards the seller does.
async fn cut_off(world: &World, demo: &Service, [seller, buyer]: [&Page<'_>; 2], told: &mut Vec<String>) {
    let (seller_app, buyer_app) = (world.member(SELLER), world.member(BUYER));
    let room = buyer_app.rooms().await.unwrap().remove(0).id;
    kill(world, demo, &[seller, buyer]).await;
    for number in 1..=5 {
        let body = format!("답장 {number}");
        seller_app.send(&room, &body, &body).await.unwrap();
        told.push(body);
    }
    let restarted = Instant::now();
    demo.server.restart().await.unwrap();
    // Nothing comes after them that would tell of a gap: the stream goes on where it was.
    buyer.shows_messages(told).await;
    println!(
        "the page was up to date {:?} after the restart began",
        restarted.elapsed()
    );
    seller.shows("status", "Connected").await;

    kill(world, demo, &[seller, buyer]).await;
    buyer.type_into("Message", "내일 만날까요?\n").await;
    buyer.last_is("Sending…").await;
    demo.server.restart().await.unwrap();
    told.push("내일 만날까요?".to_owned());
    for page in [seller, buyer] {
        page.shows_messages(told).await;
        page.shows("status", "Connected").await;
    }
    seller.type_into("Message", "좋아요!\n").await;
    told.push("좋아요!".to_owned());
    for page in [seller, buyer] {
        page.shows_messages(told).await;
    }
    let kept = buyer_app.messages(&room).await.unwrap();
    let kept: Vec<String> = kept.into_iter().filter_map(|message| message.body).collect();
    assert_eq!(&kept, told, "each was sent once");
}

/// Kills the service of these pages, and waits until they have noticed.
async fn kill(world: &World, demo: &Service, pages: &[&Page<'_>]) {
    demo.server.kill().unwrap();
    world.end_transactions().await;
    for page in pages {
        page.shows("status", "Reconnecting").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_chat_are_cut_off_and_see_their_room_close() {
    Chromium::run(async |browser| {
        World::run(async |world| {
            let demo = services::spawn_chat(world.stack, world.demo_options(&MEMBERS))
                .await
                .unwrap();
            let address = format!("{}/demo", demo.url());
            let post = post(world).await;
            let (seller, buyer) = tokio::join!(
                signed_in(browser, &address, "판매자"),
                signed_in(browser, &address, "구매자"),
            );
            let both = [&seller, &buyer];
            for page in both {
                page.shows("status", "Connected").await;
                page.evaluate("window.stays = true").await.unwrap();
            }
            let mut told = chat(&seller, &buyer, post).await;
            cut_off(world, &demo, both, &mut told).await;

            // What becomes of the post is told in the room.
            let seller_app = world.member(SELLER);
            seller_app.choose_buyer(post, BUYER).await.unwrap();
            told.push("The item is reserved.".to_owned());
            for page in both {
                page.shows_messages(&told).await;
                page.shows("room-title", "reserved").await;
            }

            let deleted = Instant::now();
            seller_app.delete_post(post).await.unwrap();
            for page in both {
                page.shows("closed", "the trade post was deleted").await;
                page.shows("rooms", "closed").await;
                page.shows_messages(&[]).await;
                assert_eq!(page.text("send-form").await.unwrap(), "", "nobody can write");
            }
            println!(
                "both saw the room close within {:?} of the delete",
                deleted.elapsed()
            );
            buyer.click("Write to its seller").await;
            buyer.shows("error", "was deleted").await;

            for page in both {
                let stays = page.evaluate("window.stays").await.unwrap();
                assert_eq!(stays, true, "the page was never loaded anew");
                assert_eq!(
                    page.evaluate("document.cookie").await.unwrap(),
                    "",
                    "no script sees it"
                );
                let addresses = "[location.href, ...performance.getEntries().map(entry => entry.name)]
                .filter(address => address.includes(sessionStorage.getItem('token'))).length";
                assert_eq!(
                    page.evaluate(addresses).await.unwrap(),
                    0,
                    "no token in an address"
                );
            }
            stop(&demo).await;
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_misses_nothing_though_its_stream_was_refused_or_its_history_is_gone() {
    Chromium::run(async |browser| {
        World::run(async |world| {
            let options = world.demo_options(&MEMBERS).env("STREAMS_PER_MEMBER", "1");
            let demo = services::spawn_chat(world.stack, options).await.unwrap();
            let address = format!("{}/demo", demo.url());
            let seller_app = world.member(SELLER).at_chat(demo.url(), demo.admin_url());
            let buyer_app = world.member(BUYER);
            let post = post(world).await;
            let room = buyer_app.open_room(post).await.unwrap().id;

            // The only stream that the seller may have.
            let elsewhere = seller_app.events(None).await.unwrap();
            let seller = signed_in(browser, &address, "판매자").await;
            seller.shows("status", "Reconnecting").await;
            seller.click(TITLE).await;
            seller.shows("room-title", TITLE).await;
            let mut told: Vec<String> = (1..=3).map(|number| format!("여기요 {number}")).collect();
            for body in &told {
                buyer_app.send(&room, body, body).await.unwrap();
            }
            drop(elsewhere);
            seller.shows("status", "Connected").await;
            seller.shows_messages(&told).await;

            // Away for longer than notifications are kept.
            kill(world, &demo, &[&seller]).await;
            buyer_app.send(&room, "4", "아직 계세요?").await.unwrap();
            told.push("아직 계세요?".to_owned());
            let of_seller = doc! { "member_id": SELLER };
            world.store.notifications.delete_many(of_seller).await.unwrap();
            demo.server.restart().await.unwrap();
            seller.shows_messages(&told).await;
            stop(&demo).await;
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_has_one_member_at_a_time() {
    Chromium::run(async |browser| {
        World::run_before_capture(async |world| {
            let demo = services::spawn_chat(world.stack, world.demo_options(&MEMBERS))
                .await
                .unwrap();
            let address = format!("{}/demo", demo.url());
            let profile = new_profile(browser).await.unwrap();
            let first = Page::open(browser, &profile, &address).await.unwrap();
            first.click("판매자").await;
            first.shows("status", "Connected").await;
            let second = Page::open(browser, &profile, &address).await.unwrap();
            second.click("구매자").await;
            second.shows("status", "Connected").await;
            first.shows("error", "signed in here too").await;
            first.shows("sign-in", "Sign in").await;

            second.click("Sign out").await;
            second.shows("sign-in", "Sign in").await;
            second
                .type_into("Or with the token of another member", "no token")
                .await;
            second.click("Sign in").await;
            second.shows("error", "no token of a member").await;
            stop(&demo).await;
        })
        .await;
    })
    .await;
}

/// Of every operation that answers and is described: its id, and what it says of its first answer.
fn operations(document: &str) -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(document).unwrap();
    let paths = document["paths"].as_object().unwrap().values();
    let all = paths.flat_map(|path| path.as_object().unwrap().values());
    let described = all.filter_map(|operation| {
        let mut answers = operation["responses"].as_object()?.values();
        let says = answers.find_map(|answer| answer["description"].as_str())?;
        // Shown as code.
        Some((
            operation["operationId"].as_str()?.to_owned(),
            says.replace('`', ""),
        ))
    });
    described.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_of_the_apis_are_shown() {
    Chromium::run(async |browser| {
        World::run_before_capture(async |world| {
            let profile = new_profile(browser).await.unwrap();
            for (base, document) in [
                (
                    world.trade.url(),
                    include_str!("../../trade-service/openapi.json"),
                ),
                (world.chat.url(), include_str!("../../chat-service/openapi.json")),
                (
                    world.chat.admin_url(),
                    include_str!("../../chat-service/openapi-operators.json"),
                ),
            ] {
                let page = Page::open(browser, &profile, &format!("{base}/docs"))
                    .await
                    .unwrap();
                page.shows("page", "openapi.json").await;
                let operations = operations(document);
                let shown = page.evaluate("document.querySelectorAll('details').length");
                assert_eq!(shown.await.unwrap(), operations.len());
                for (id, says) in operations {
                    page.evaluate(&format!("location.hash = '#{id}'")).await.unwrap();
                    page.shows(&id, &says).await;
                }
            }
        })
        .await;
    })
    .await;
}
