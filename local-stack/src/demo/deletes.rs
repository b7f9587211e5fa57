//! Deletes posts in every way there is, and follows each until its chats are erased.
//!
//! Every time comes from the clock of this machine: the demo's own, or what chat-service and Debezium
//! wrote down, which are whole milliseconds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use mongodb::bson::{Document, doc};
use serde_json::json;
use service_kit::clock;
use sqlx::{Connection, PgConnection};

use super::{
    dataset::DeletedBy,
    listen::Listeners,
    load::{Clients, LoadedPost, client},
    timeline::{Stages, Timeline, millis},
};
use crate::{client::Client, progress::Step, system::System};

/// Far beyond what is expected: a delete that takes longer has failed.
const BOUND: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// What the deletes work with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Market<'a> {
    pub(super) system: &'a System,
    pub(super) chat: &'a mongodb::Database,
    pub(super) clients: &'a Clients,
    pub(super) posts: &'a [LoadedPost],
    pub(super) listeners: &'a Listeners,
}

#[derive(Debug)]
pub(super) struct Deletes {
    /// One of each kind.
    pub(super) kinds: Vec<Timeline>,
    /// Posts deleted by REST one after another.
    pub(super) each: Vec<Timeline>,
    /// Of all deletes by REST: from the answer to the last member's knowledge.
    pub(super) answered_to_told: Vec<f64>,
    /// The post that never had a chat.
    pub(super) without_chats: i64,
}

/// A moment as both clocks tell it.
#[derive(Clone, Copy, Debug)]
struct Start {
    instant: Instant,
    time: DateTime<Utc>,
}

impl Start {
    fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: clock::now(),
        }
    }

    fn since(self, instant: Instant) -> f64 {
        millis(instant.saturating_duration_since(self.instant))
    }

    fn until(self, time: DateTime<Utc>) -> f64 {
        // Times of others are cut to the millisecond, and so may seem to lie before.
        millis((time - self.time).to_std().unwrap_or_default())
    }
}

impl Market<'_> {
    pub(super) async fn run(self, step: &Step) -> Result<Deletes> {
        let mut sql = PgConnection::connect(&self.system.endpoints().postgres)
            .await
            .context("PostgreSQL takes no connection")?;
        let mut kinds = Vec::new();

        step.message("by REST");
        kinds.push(self.by_rest("by REST", DeletedBy::Rest).await?);
        kinds.push(
            self.by_rest("by REST, with a long chat", DeletedBy::RestLarge)
                .await?,
        );
        let mut answered_to_told: Vec<f64> = kinds
            .iter()
            .filter_map(|timeline| timeline.stages.answered_to_told())
            .collect();

        step.message("by SQL");
        kinds.push(self.by_sql("by SQL, one row", DeletedBy::Sql, &mut sql).await?);
        kinds.push(
            self.by_sql("by SQL, one statement", DeletedBy::SqlBatch, &mut sql)
                .await?,
        );
        let (without_chats, silent) = self.without_chats().await?;
        kinds.push(silent);

        let posts = self.of(DeletedBy::RestEach);
        let mut each = Vec::with_capacity(posts.len());
        for (number, post) in posts.iter().enumerate() {
            step.message(format!("by REST, {} of {}", number + 1, posts.len()));
            let start = Start::now();
            client(self.clients, post.seller)?.delete_post(post.id).await?;
            let stages = self.follow(&[post], start).await?;
            each.push(timeline("by REST", &[post], stages));
        }
        answered_to_told.extend(
            each.iter()
                .filter_map(|timeline| timeline.stages.answered_to_told()),
        );
        sql.close().await?;
        Ok(Deletes {
            kinds,
            each,
            answered_to_told,
            without_chats,
        })
    }

    fn of(&self, deleted_by: DeletedBy) -> Vec<&LoadedPost> {
        self.posts
            .iter()
            .filter(|post| post.deleted_by == Some(deleted_by))
            .collect()
    }

    async fn by_rest(&self, delete: &str, deleted_by: DeletedBy) -> Result<Timeline> {
        let posts = self.of(deleted_by);
        let start = Start::now();
        for post in &posts {
            client(self.clients, post.seller)?.delete_post(post.id).await?;
        }
        Ok(timeline(delete, &posts, self.follow(&posts, start).await?))
    }

    async fn by_sql(&self, delete: &str, deleted_by: DeletedBy, sql: &mut PgConnection) -> Result<Timeline> {
        let posts = self.of(deleted_by);
        let ids: Vec<i64> = posts.iter().map(|post| post.id).collect();
        let start = Start::now();
        let deleted = sqlx::query("DELETE FROM trade_posts WHERE id = ANY ($1)")
            .bind(&ids)
            .execute(sql)
            .await?
            .rows_affected();
        ensure!(
            usize::try_from(deleted) == Ok(ids.len()),
            "{deleted} rows were deleted instead of {}",
            ids.len()
        );
        Ok(timeline(delete, &posts, self.follow(&posts, start).await?))
    }

    /// Waits for everything that the delete of `posts`, just answered, brings about.
    async fn follow(&self, posts: &[&LoadedPost], start: Start) -> Result<Stages> {
        let answered = start.since(Instant::now());
        let expected: Vec<(i64, &str)> = posts
            .iter()
            .flat_map(|post| &post.rooms)
            .flat_map(|room| room.members().map(|member| (member, room.id.as_str())))
            .collect();
        let told = self.listeners.all_told(&expected, BOUND).await.with_context(|| {
            format!(
                "not all {} members of the closed rooms were told within {BOUND:?}",
                expected.len()
            )
        })?;
        let mut stages = Stages {
            answered: Some(answered),
            told: Some(start.since(told)),
            ..Stages::default()
        };
        for post in posts {
            let own = erased(client(self.clients, post.seller)?, post.id, start).await?;
            stages.captured = later(stages.captured, own.captured);
            stages.closed = later(stages.closed, own.closed);
            stages.erased = later(stages.erased, own.erased);
        }
        Ok(stages)
    }

    /// A post that is gone before anybody asks about it. Nobody is told; a fence stays.
    async fn without_chats(&self) -> Result<(i64, Timeline)> {
        let (_, seller) = self.clients.first_key_value().context("there are no members")?;
        let post = json!({
            "title": "잘못 올린 글입니다",
            "body": "곧 지울게요",
            "price": 1000,
            "category": "취미/게임",
        });
        let post = seller.create_post(&post).await?;
        let start = Start::now();
        seller.delete_post(post.id).await?;
        let answered = start.since(Instant::now());
        let deadline = Instant::now() + BOUND;
        let fences = self.chat.collection::<Document>("trade_posts");
        let fence = loop {
            let fence = fences
                .find_one(doc! { "_id": post.id, "state": "deleted" })
                .await?;
            if let Some(fence) = fence {
                break fence;
            }
            ensure!(
                Instant::now() < deadline,
                "the delete of a post without chats has not arrived within {BOUND:?}"
            );
            tokio::time::sleep(PAUSE).await;
        };
        let closed = fence
            .get_datetime("deleted_at")
            .ok()
            .and_then(|time| DateTime::from_timestamp_millis(time.timestamp_millis()))
            .map(|time| start.until(time));
        let timeline = Timeline {
            delete: "by REST, never had a chat".to_owned(),
            posts: 1,
            rooms: 0,
            messages: 0,
            stages: Stages {
                answered: Some(answered),
                closed,
                ..Stages::default()
            },
        };
        Ok((post.id, timeline))
    }
}

/// Waits until the post's deletion is done.
async fn erased(client: &Client, post: i64, start: Start) -> Result<Stages> {
    let deadline = Instant::now() + BOUND;
    loop {
        let deletions = client.deletions(post).await?;
        if let Some(deletion) = deletions.first()
            && let Some(done_at) = deletion.done_at
        {
            return Ok(Stages {
                captured: deletion.captured_at.map(|time| start.until(time)),
                closed: Some(start.until(deletion.closed_at)),
                erased: Some(start.until(done_at)),
                ..Stages::default()
            });
        }
        ensure!(
            Instant::now() < deadline,
            "the deletion of post {post} is not done after {BOUND:?}: {deletions:?}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

fn later(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

fn timeline(delete: &str, posts: &[&LoadedPost], stages: Stages) -> Timeline {
    Timeline {
        delete: delete.to_owned(),
        posts: posts.len(),
        rooms: posts.iter().map(|post| post.rooms.len()).sum(),
        messages: posts.iter().map(|post| post.messages()).sum(),
        stages,
    }
}
