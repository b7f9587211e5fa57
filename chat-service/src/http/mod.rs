//! The public API and the admin API: routes, state, limits.
//!
//! Invariant: who a caller is comes from the token alone, and every query carries the member.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::FromRef};
use service_kit::{
    auth::Authenticator,
    health::{self, Health},
    metrics::{HttpMetrics, Metrics},
    openapi,
    server::{Limits, api},
};

use self::{demo::Demo, rate::Rates, session::Sessions};
use crate::{
    cdc::Pipeline,
    config::StreamConfig,
    live::{hub::Hub, replay::Replay},
    metrics::ChatMetrics,
    outbox::Outbox,
    store::Store,
};

mod admin;
mod blocks;
pub mod demo;
pub mod document;
pub mod error;
mod events;
mod messages;
mod notifications;
mod page;
pub mod rate;
mod rooms;
pub mod session;

/// A message of the longest allowed body fits several times.
const LIMITS: Limits = Limits {
    body: 32 * 1024,
    upload: Duration::from_secs(10),
    head: Duration::from_secs(15),
};

/// What handlers work with.
#[derive(Debug)]
pub struct App {
    pub store: Store,
    pub outbox: Outbox,
    pub hub: Arc<Hub>,
    pub replay: Replay,
    pub streams: StreamConfig,
    pub rates: Rates,
    pub sessions: Sessions,
    /// For operators who replay dead letters.
    pub pipeline: Arc<Pipeline>,
    pub metrics: ChatMetrics,
}

#[derive(Clone)]
struct AppState {
    app: Arc<App>,
    authenticator: Arc<Authenticator>,
}

impl FromRef<AppState> for Arc<App> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.app)
    }
}

impl FromRef<AppState> for Arc<Authenticator> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.authenticator)
    }
}

/// Everything members reach.
pub fn public(
    app: Arc<App>,
    authenticator: Arc<Authenticator>,
    metrics: &HttpMetrics,
    demo: Option<Demo>,
) -> Router {
    let sessions = &app.sessions;
    let cors = sessions.origins.cors(sessions.cookie.is_some());
    let routes = openapi::serve(document::routes().into(), &document::public())
        .with_state(AppState { app, authenticator })
        .merge(demo.map(Demo::routes).unwrap_or_default());
    api(routes, metrics, LIMITS, cors)
}

/// Everything operators reach: health, metrics, and what the consumer did.
pub fn admin(app: Arc<App>, health: Health, metrics: Metrics, http: &HttpMetrics) -> Router {
    api(
        openapi::serve(admin::routes().into(), &document::operators())
            .with_state(app)
            .merge(health::admin_router(health, metrics)),
        http,
        LIMITS,
        None,
    )
}
