//! The public API: its routes and the state they share.

mod error;
mod posts;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::get;
use service_kit::auth::Authenticator;

use crate::store::Store;

#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) authenticator: Arc<Authenticator>,
}

impl FromRef<App> for Store {
    fn from_ref(app: &App) -> Self {
        app.store.clone()
    }
}

impl FromRef<App> for Arc<Authenticator> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.authenticator)
    }
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/trade-posts", get(posts::list).post(posts::create))
        .route(
            "/v1/trade-posts/{id}",
            get(posts::show).patch(posts::change).delete(posts::delete),
        )
        .with_state(app)
}
