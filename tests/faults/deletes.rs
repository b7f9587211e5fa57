//! Posts deleted at a steady rate, whatever happens meanwhile, up to a limit that rises with the test: there
//! are always some left for what comes next.
//!
//! Invariant: a post counts as deleted once its row is known to be gone; a delete that failed, or whose answer
//! was lost, is asked for again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use e2e::world::World;
use local_stack::client::Client;
use reqwest::StatusCode;
use sqlx::PgPool;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{interval, sleep, timeout},
};

use crate::{BOUND, market::Post};

/// Posts per step. All but one are deleted by one statement, the last by the API.
const STEP: usize = 10;
/// 250 posts a second.
const PAUSE: Duration = Duration::from_millis(40);
const AGAIN: Duration = Duration::from_millis(50);

pub struct Deletes {
    work: Arc<Work>,
    task: JoinHandle<()>,
}

struct Work {
    left: Mutex<VecDeque<Post>>,
    gone: watch::Sender<u64>,
    limit: watch::Sender<u64>,
    sql: PgPool,
    sellers: HashMap<i64, Client>,
}

impl Deletes {
    /// Begins to delete `posts`, so many of them for now.
    pub fn start(world: &World, posts: &[Post], limit: u64) -> Self {
        let sellers = posts.iter().map(|post| post.seller);
        let work = Arc::new(Work {
            left: Mutex::new(posts.iter().copied().collect()),
            gone: watch::Sender::new(0),
            limit: watch::Sender::new(limit),
            sql: world.sql.clone(),
            sellers: sellers.map(|seller| (seller, world.member(seller))).collect(),
        });
        let task = tokio::spawn({
            let work = Arc::clone(&work);
            async move {
                let mut steps = interval(PAUSE);
                while work.step().await {
                    steps.tick().await;
                }
            }
        });
        Self { work, task }
    }

    /// Posts deleted so far.
    pub fn gone(&self) -> u64 {
        *self.work.gone.borrow()
    }

    /// Lets so many more be deleted than are by now, or may be. Answers how many are by now.
    pub fn more(&self, posts: u64) -> u64 {
        let gone = self.gone();
        self.work
            .limit
            .send_modify(|limit| *limit = (*limit).max(gone) + posts);
        gone
    }

    /// Waits until so many are deleted.
    pub async fn reach(&self, gone: u64) {
        let mut seen = self.work.gone.subscribe();
        let reached = timeout(BOUND, seen.wait_for(|seen| *seen >= gone)).await;
        reached.expect("deletes go on").unwrap();
    }

    /// Deletes so many more by one statement.
    pub async fn burst(&self, posts: usize) {
        let posts = self.work.take(posts);
        self.work.delete_by_statement(&posts).await;
    }
}

impl Drop for Deletes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Work {
    /// Deletes the next posts. Answers whether there were any.
    async fn step(&self) -> bool {
        let mut limit = self.limit.subscribe();
        let below = limit.wait_for(|limit| *self.gone.borrow() < *limit);
        below.await.expect("the limit is ours");
        let mut posts = self.take(STEP);
        let Some(last) = posts.pop() else { return false };
        self.delete_by_statement(&posts).await;
        self.delete_by_request(last).await;
        true
    }

    fn take(&self, posts: usize) -> Vec<Post> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let posts = posts.min(left.len());
        left.drain(..posts).collect()
    }

    async fn delete_by_statement(&self, posts: &[Post]) {
        let ids: Vec<i64> = posts.iter().map(|post| post.id).collect();
        let delete = "DELETE FROM trade_posts WHERE id = ANY($1)";
        while sqlx::query(delete).bind(&ids).execute(&self.sql).await.is_err() {
            sleep(AGAIN).await;
        }
        self.gone.send_modify(|gone| *gone += posts.len() as u64);
    }

    async fn delete_by_request(&self, post: Post) {
        let seller = &self.sellers[&post.seller];
        loop {
            match seller.delete_post(post.id).await {
                Ok(()) => break,
                // By a request before, whose answer was lost.
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => break,
                Err(_) => sleep(AGAIN).await,
            }
        }
        self.gone.send_modify(|gone| *gone += 1);
    }
}
