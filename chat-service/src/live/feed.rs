//! Brings new notifications to the hub: one change stream per instance, the fast path.
//!
//! Invariant: a change stream begins now, never at a token that may have expired; whatever was written
//! while none was open is found by the sweep that follows.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use mongodb::{
    bson::doc,
    change_stream::event::ChangeStreamEvent,
    error::{Error, Result},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{hub::Hub, sweep::sweep};
use crate::{notification::Notification, store::Store};

/// Most notifications handed on at once.
const BATCH: usize = 256;
/// Wait before the change stream is opened again; doubled with each try that does not succeed.
const REOPEN: Duration = Duration::from_millis(250);
const REOPEN_MAX: Duration = Duration::from_secs(5);

/// Feeds `hub` until `shutdown`. `store` is to have a client that requests do not use: the change stream
/// keeps one of its connections busy.
pub async fn run(store: Store, hub: Arc<Hub>, shutdown: CancellationToken) -> Result<()> {
    let mut wait = REOPEN;
    loop {
        let mut opened = false;
        let Some(ended) = shutdown
            .run_until_cancelled(follow(&store, &hub, &mut opened))
            .await
        else {
            return Ok(());
        };
        wait = if opened { REOPEN } else { REOPEN_MAX.min(2 * wait) };
        if let Err(error) = ended {
            warn!(%error, "the change stream ended; it is opened again, and until then events come late");
        }
        shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

async fn follow(store: &Store, hub: &Hub, opened: &mut bool) -> Result<()> {
    let inserts = [doc! { "$match": { "operationType": "insert" } }];
    let mut changes = store.notifications.watch().pipeline(inserts).await?;
    info!("following new notifications");
    // First the stream, then the sweep: nothing falls between.
    sweep(store, hub, Duration::ZERO).await?;
    *opened = true;
    let wanted = |event: ChangeStreamEvent<Notification>| {
        event
            .full_document
            .filter(|notification| hub.has(notification.member_id))
    };
    loop {
        let ended = || Error::custom("the change stream was closed by the server");
        let first = changes.next().await.ok_or_else(ended)??;
        let mut batch: Vec<Notification> = wanted(first).into_iter().collect();
        while batch.len() < BATCH
            && let Some(next) = changes.next().now_or_never()
        {
            batch.extend(wanted(next.ok_or_else(ended)??));
        }
        // Each event is encoded here, once for all streams of its member.
        for (notification, frame) in batch.iter().zip(store.frames(&batch).await?) {
            hub.publish(notification.member_id, &frame);
        }
    }
}
