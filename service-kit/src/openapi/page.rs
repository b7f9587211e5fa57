//! The page that shows a document to people.
//!
//! Invariant: it loads nothing but its own two files and the document, all of them from where it came, and what
//! the document says is put in as text. So it works without a network, and says nothing to anybody else.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

/// Where a service answers the page. It names its files and the document relative to this, as a proxy may serve
/// all of them under a prefix.
pub const PATH: &str = "/docs";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const FILES: [(&str, &str, &str); 3] = [
    (PATH, HTML, include_str!("page.html")),
    (
        "/docs/page.css",
        "text/css; charset=utf-8",
        include_str!("page.css"),
    ),
    (
        "/docs/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page.js"),
    ),
];

pub(super) fn serve<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    FILES.into_iter().fold(router, |router, (path, kind, text)| {
        router.route(path, get(async move || file(kind, text)))
    })
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Of another release than the document they would not fit.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;
    use http::{HeaderMap, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    use utoipa::openapi::OpenApi;

    use super::*;

    async fn get(path: &str) -> (StatusCode, HeaderMap, String) {
        let router = crate::openapi::serve(Router::new(), &OpenApi::default());
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (head, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn the_page_and_what_it_names_are_served_and_bound_to_their_origin() {
        let (_, _, page) = get(PATH).await;
        let named: Vec<&str> = page
            .split("src=\"")
            .chain(page.split("href=\""))
            .filter_map(|part| part.split_once('"').map(|(name, _)| name))
            .filter(|name| !name.contains('<') && *name != "data:,")
            .collect();
        assert_eq!(named, ["docs/page.js", "docs/page.css", "openapi.json"]);
        for (path, kind) in [
            (PATH, "text/html; charset=utf-8"),
            ("/docs/page.js", "text/javascript; charset=utf-8"),
            ("/docs/page.css", "text/css; charset=utf-8"),
            (crate::openapi::PATH, "application/json"),
        ] {
            let (status, headers, _) = get(path).await;
            assert_eq!(
                (status, headers[CONTENT_TYPE].to_str().unwrap()),
                (StatusCode::OK, kind)
            );
            if path != crate::openapi::PATH {
                assert_eq!(headers[CONTENT_SECURITY_POLICY], POLICY, "{path}");
                assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            }
        }
        assert!(!POLICY.contains("unsafe") && !POLICY.contains('*'));
    }

    #[test]
    fn nothing_names_another_host_or_makes_html_of_a_text() {
        for (path, _, text) in FILES {
            for foreign in ["://", "\"//", "'//", "@import", "url("] {
                assert!(!text.contains(foreign), "{foreign} is in {path}");
            }
            for unsafe_way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "setHTML",
                "document.write",
                "eval(",
                "Function(",
                "style=",
                "onclick",
                "<style",
            ] {
                assert!(!text.contains(unsafe_way), "{unsafe_way} is in {path}");
            }
        }
    }
}
