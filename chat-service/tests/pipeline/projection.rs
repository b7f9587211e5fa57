//! Batches in which some posts are known and others are not, whatever their records suggest.

use std::{collections::BTreeMap, time::Duration};

use chat_service::store::posts::PostState;
use futures_util::TryStreamExt;
use mongodb::bson::doc;

use crate::bed::{Bed, create, delete, event, update};

/// State, LSN and title of posts.
async fn posts(bed: &Bed, ids: &[i64]) -> BTreeMap<i64, (PostState, i64, Option<String>)> {
    let found = bed
        .store
        .posts
        .find(doc! { "_id": { "$in": ids } })
        .await
        .unwrap();
    let posts: Vec<_> = found.try_collect().await.unwrap();
    posts
        .into_iter()
        .map(|post| (post.id, (post.state, post.lsn, post.title)))
        .collect()
}

#[tokio::test]
async fn each_post_of_a_mixed_batch_gets_its_own_news() {
    let bed = Bed::new().await;
    let known = |id: i64| id % 3 != 0;
    let all: Vec<i64> = (1..=300).collect();
    let before = all.iter().filter(|id| known(**id));
    bed.batch(before.map(|id| event(*id, *id, create(10 + id)))).await;
    // Created again or for the first time, changed though unknown, deleted though unknown, or old.
    let events = all.iter().map(|id| {
        let change = match id % 4 {
            0 => create(1000 + id),
            1 => update(1000 + id, &format!("글 {id}")),
            2 => delete(1000 + id),
            _ => update(5, "옛날"),
        };
        event(*id, 1000 + id, change)
    });
    bed.batch(events).await;
    let found = posts(&bed, &all).await;
    for id in all {
        let title = |title: &str| Some(title.to_owned());
        let first = known(id).then(|| "자전거".to_owned());
        let expected = match id % 4 {
            0 => (PostState::Live, 1000 + id, title("자전거")),
            1 => (PostState::Live, 1000 + id, title(&format!("글 {id}"))),
            2 => (PostState::Deleted, 1000 + id, first),
            _ if known(id) => (PostState::Live, 10 + id, first),
            _ => (PostState::Live, 5, title("옛날")),
        };
        assert_eq!(found[&id], expected, "post {id}");
    }
}

/// A fence may expire at any moment, also between two statements of one batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_whose_fences_expire_meanwhile_are_projected_nevertheless() {
    let bed = Bed::new().await;
    let ids: Vec<i64> = (1..=200).collect();
    for round in 1..=40 {
        let (deleted, again) = (100 * round, 100 * round + 1);
        bed.batch(ids.iter().map(|id| event(*id, round, delete(deleted))))
            .await;
        let expire = async {
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..30_000))).await;
            let fences = doc! { "state": "deleted" };
            bed.store.posts.delete_many(fences).await.unwrap()
        };
        let created = ids.iter().map(|id| event(*id, round, create(again)));
        tokio::join!(bed.batch(created), expire);
        let found = posts(&bed, &ids).await;
        assert_eq!(found.len(), ids.len(), "round {round}");
        let alive =
            |(state, lsn, _): &(PostState, i64, Option<String>)| (*state, *lsn) == (PostState::Live, again);
        assert!(found.values().all(alive), "round {round}");
    }
}

/// Two instances that read the same records, during a rebalance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_with_the_same_batch_do_not_get_in_each_others_way() {
    let bed = Bed::new().await;
    let ids: Vec<i64> = (1..=200).collect();
    for round in 1..=10 {
        let older = ids.iter().map(|id| event(*id, 10 * round, create(100 * round)));
        let newer = ids
            .iter()
            .map(|id| event(*id, 10 * round + 1, delete(100 * round + 1)));
        tokio::join!(bed.batch(older.clone()), bed.batch(older.chain(newer)));
        let found = posts(&bed, &ids).await;
        assert_eq!(found.len(), ids.len());
        assert!(
            found
                .values()
                .all(|(state, lsn, _)| (*state, *lsn) == (PostState::Deleted, 100 * round + 1))
        );
    }
}
