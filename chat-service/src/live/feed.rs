//! Brings new notifications to the hub: one change stream per instance.
//!
//! Invariant: whenever the change stream was not open, every stream is told to look into MongoDB
//! after it is open again, so a lost signal costs time and no event.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use mongodb::{
    bson::doc,
    change_stream::event::ChangeStreamEvent,
    error::{Error, Result},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::hub::Hub;
use crate::{notification::Notification, store::Store};

/// Most notifications handed on at once.
const BATCH: usize = 256;
/// Wait before the change stream is opened again.
const REOPEN: Duration = Duration::from_millis(500);

/// Feeds `hub` until `shutdown`. `store` is to have a client of its own: the change stream keeps
/// one of its connections busy.
pub async fn run(store: Store, hub: Arc<Hub>, shutdown: CancellationToken) -> Result<()> {
    while let Some(ended) = shutdown.run_until_cancelled(follow(&store, &hub)).await {
        if let Err(error) = ended {
            warn!(%error, "the change stream ended, opening it again");
        }
        shutdown.run_until_cancelled(tokio::time::sleep(REOPEN)).await;
    }
    Ok(())
}

async fn follow(store: &Store, hub: &Hub) -> Result<()> {
    let inserts = [doc! { "$match": { "operationType": "insert" } }];
    let mut changes = store.notifications.watch().pipeline(inserts).await?;
    info!("following new notifications");
    hub.catch_up_all();
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
        for (notification, frame) in batch.iter().zip(store.frames(&batch).await?) {
            hub.publish(notification.member_id, &frame);
        }
    }
}
