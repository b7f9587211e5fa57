//! How many requests are at the database at a time, and for how long.
//!
//! A request takes a place when all of its body is there and it is known who asks, so that neither slow clients nor
//! a slow issuer of keys hold any. Invariant: no more requests wait for a connection than may, and each is answered
//! in bounded time, whatever PostgreSQL and the network in between do: whoever comes when all places are taken is
//! refused at once, and what takes too long is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use service_kit::auth::Authenticator;
use service_kit::extract::with_body;
use service_kit::problem::Problem;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::DatabaseLimits;

/// A place is free again when any request is done.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Places>);

#[derive(Debug)]
struct Places {
    free: Semaphore,
    all: usize,
    deadline: Duration,
    /// So that the log tells when refusing begins and ends, and not of each request.
    refusing: AtomicBool,
}

impl Admission {
    pub(crate) fn new(limits: DatabaseLimits) -> Self {
        let all = (limits.connections + limits.waiting) as usize;
        Self(Arc::new(Places {
            free: Semaphore::new(all),
            all,
            deadline: limits.request,
            refusing: AtomicBool::new(false),
        }))
    }
}

pub(super) async fn admit(
    State(Admission(places)): State<Admission>,
    State(authenticator): State<Arc<Authenticator>>,
    request: Request,
    next: Next,
) -> Response {
    let mut request = match with_body(request).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    authenticator.identify(&mut request).await;
    let Ok(_place) = places.free.try_acquire() else {
        if !places.refusing.swap(true, Ordering::Relaxed) {
            warn!(
                "{} requests wait for PostgreSQL: others are answered 503",
                places.all
            );
        }
        return Problem::unavailable(RETRY_AFTER)
            .detail("Too many requests wait for a server that this service depends on. Try again later.")
            .into_response();
    };
    let Ok(response) = timeout(places.deadline, next.run(request)).await else {
        warn!(
            "no answer from PostgreSQL within {:?}, the request is given up",
            places.deadline
        );
        return Problem::timeout(RETRY_AFTER).into_response();
    };
    if places.free.available_permits() > places.all / 2 && places.refusing.swap(false, Ordering::Relaxed) {
        info!("requests are taken again");
    }
    response
}
