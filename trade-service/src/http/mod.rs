//! The public API: its routes, the document that they make, and the state they share.

mod admission;
mod buyer;
mod error;
mod favorites;
mod keywords;
mod me;
mod posts;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use service_kit::auth::Authenticator;
use service_kit::openapi;
use service_kit::server::Limits;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::admission::Admission;
use crate::metrics::TradeMetrics;
use crate::store::Store;
use crate::views::Views;

#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) admission: Admission,
    pub(crate) views: Arc<Views>,
    pub(crate) metrics: Arc<TradeMetrics>,
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

impl FromRef<App> for Admission {
    fn from_ref(app: &App) -> Self {
        app.admission.clone()
    }
}

impl FromRef<App> for Arc<Views> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.views)
    }
}

impl FromRef<App> for Arc<TradeMetrics> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.metrics)
    }
}

/// The document, but for its routes.
#[derive(OpenApi)]
#[openapi(
    info(title = "trade-service", description = "Trade posts of a second-hand marketplace."),
    security(("token" = []))
)]
struct Document;

pub(crate) fn router(app: App) -> Router {
    let (router, _) = routes().split_for_parts();
    let router = router
        .route_layer(from_fn_with_state(app.clone(), admission::admit))
        .with_state(app);
    openapi::serve(router, &document())
}

pub(crate) fn document() -> utoipa::openapi::OpenApi {
    openapi::complete(routes().into_openapi(), Limits::default())
}

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(posts::list, posts::create))
        .routes(routes!(posts::show, posts::change, posts::delete))
        .routes(routes!(keywords::list, keywords::keep))
        .routes(routes!(keywords::forget))
        .routes(routes!(buyer::choose))
        .routes(routes!(favorites::add, favorites::remove))
        .routes(routes!(me::posts))
        .routes(routes!(me::purchases))
        .routes(routes!(me::favorites))
}
