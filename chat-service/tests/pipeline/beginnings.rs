//! What a connector began with, and whether changes may have been missed before.

use chat_service::{cdc::change_event::Beginning, store::now};
use mongodb::bson::{Document, doc};

use crate::bed::{Bed, create, event};

const FIRST: Beginning = Beginning::Snapshot { lsn: 100 };
/// Behind that, with a record of its own in each of two partitions.
const STREAM: Beginning = stream(150);
const STREAM_TOO: Beginning = Beginning::Stream {
    lsn: 160,
    committed_ms: 150,
};
const ANEW: Beginning = stream(300);
const AGAIN: Beginning = Beginning::Snapshot { lsn: 400 };
const STREAM_AGAIN: Beginning = stream(450);

const fn stream(lsn: i64) -> Beginning {
    Beginning::Stream {
        lsn,
        committed_ms: lsn,
    }
}

/// What nobody has resolved once these were met, by id.
async fn unresolved(bed: &Bed, met: &[Beginning]) -> Vec<String> {
    for beginning in met {
        bed.store.begun(*beginning, now()).await.unwrap();
    }
    let gaps = bed.store.gaps(Some(false), 10).await.unwrap();
    let mut ids: Vec<String> = gaps.into_iter().map(|gap| gap.id).collect();
    ids.sort();
    ids
}

/// With a post that the first snapshot has read.
async fn bed() -> Bed {
    let bed = Bed::new().await;
    bed.batch([event(1, 0, create(100))]).await;
    bed
}

#[tokio::test]
async fn the_stream_behind_a_snapshot_is_no_gap_and_one_without_is() {
    let bed = bed().await;
    assert_eq!(unresolved(&bed, &[FIRST, STREAM]).await, [""; 0]);
    bed.batch([event(1, 1, create(150))]).await;
    // The rest of the transaction; all of it again.
    assert_eq!(unresolved(&bed, &[STREAM_TOO, FIRST, STREAM]).await, [""; 0]);
    assert_eq!(unresolved(&bed, &[ANEW]).await, ["begun_anew@300"]);
    let met = [AGAIN, STREAM_AGAIN, FIRST, STREAM, ANEW];
    assert_eq!(unresolved(&bed, &met).await, ["begun_anew@300", "snapshot@400"]);
}

#[tokio::test]
async fn a_stream_that_was_met_before_its_snapshot_is_no_gap_either() {
    let bed = bed().await;
    assert_eq!(unresolved(&bed, &[STREAM]).await, ["begun_anew@150"]);
    assert_eq!(unresolved(&bed, &[FIRST]).await, [""; 0]);
    assert_eq!(unresolved(&bed, &[STREAM, ANEW]).await, ["begun_anew@300"]);
}

/// As where the stream's first transaction was none that is captured.
#[tokio::test]
async fn a_stream_that_began_behind_changes_is_a_gap() {
    let bed = bed().await;
    assert_eq!(unresolved(&bed, &[FIRST]).await, [""; 0]);
    bed.batch([event(1, 1, create(200))]).await;
    assert_eq!(unresolved(&bed, &[ANEW]).await, ["begun_anew@300"]);
}

/// However the partitions are read. What is told too much, somebody looks into.
#[tokio::test]
async fn no_order_hides_a_gap() {
    let bed = bed().await;
    for order in orders(&[FIRST, STREAM, ANEW, AGAIN, STREAM_AGAIN]) {
        for name in ["gaps", "snapshots"] {
            let collection = bed.store.db.collection::<Document>(name);
            collection.delete_many(doc! {}).await.unwrap();
        }
        let gaps = unresolved(&bed, &order).await;
        let streams = gaps.iter().filter(|id| id.starts_with("begun_anew")).count();
        assert!(
            streams > 0 && gaps.contains(&"snapshot@400".to_owned()),
            "{order:?}: {gaps:?}"
        );
    }
}

fn orders(of: &[Beginning]) -> Vec<Vec<Beginning>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let last = (0..of.len()).flat_map(|place| {
        let mut others = of.to_vec();
        let last = others.remove(place);
        orders(&others).into_iter().map(move |mut order| {
            order.push(last);
            order
        })
    });
    last.collect()
}
