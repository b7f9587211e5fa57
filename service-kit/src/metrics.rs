//! The metrics registry, and the metrics that every HTTP service has.
//!
//! Names of metrics are constants. Invariant: labels have few values; a route is the matched path
//! template, never the path itself.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counter: answered requests by `method`, `route` and `status`.
pub const HTTP_REQUESTS_TOTAL: &str = "http_requests_total";
/// Histogram, seconds: from the request's head to the response's head, by `method` and `route`.
pub const HTTP_REQUEST_DURATION_SECONDS: &str = "http_request_duration_seconds";

/// The route label of a request that matched no route.
pub const UNMATCHED: &str = "unmatched";

const DURATION_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// One registry per running service; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands the registry out to register metrics with.
    pub fn register<R>(&self, register: impl FnOnce(&mut Registry) -> R) -> R {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Registers a metric of type counter under its full name.
    ///
    /// The encoder appends `_total` to counters by itself; here names are written the way they are
    /// read in a dashboard.
    pub fn counter<M: prometheus_client::registry::Metric + Clone>(
        &self,
        name: &str,
        help: &str,
        counter: &M,
    ) {
        let name = name.strip_suffix("_total").unwrap_or(name);
        self.register(|registry| registry.register(name, help.trim_end_matches('.'), counter.clone()));
    }

    /// The text that Prometheus scrapes: every metric registered, with its value.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(
            &mut out,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        Ok(out)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    method: &'static str,
    route: String,
}

/// What [`crate::server::api`] counts.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
}

impl HttpMetrics {
    /// Registers the HTTP metrics; once per registry.
    pub fn new(metrics: &Metrics) -> Self {
        let requests = Family::default();
        let durations = Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as fn() -> _);
        metrics.counter(HTTP_REQUESTS_TOTAL, "HTTP requests answered", &requests);
        metrics.register(|registry| {
            registry.register(
                HTTP_REQUEST_DURATION_SECONDS,
                "Time from a request's head to its response's head",
                durations.clone(),
            );
        });
        Self { requests, durations }
    }

    pub(crate) fn observe(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let method = method_label(method);
        let labels = RequestLabels {
            method,
            route: route.to_owned(),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        let labels = DurationLabels {
            method,
            route: route.to_owned(),
        };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// A client may send any token as method; a label may not have any value.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_appear_exactly_as_the_constants_say() {
        let metrics = Metrics::new();
        let http = HttpMetrics::new(&metrics);
        http.observe(
            &Method::GET,
            "/v1/rooms/{id}",
            StatusCode::OK,
            Duration::from_millis(3),
        );
        http.observe(
            &Method::from_bytes(b"BREW").unwrap(),
            UNMATCHED,
            StatusCode::NOT_FOUND,
            Duration::ZERO,
        );
        let text = metrics.encode().unwrap();
        for line in [
            r#"http_requests_total{method="GET",route="/v1/rooms/{id}",status="200"} 1"#,
            r#"http_requests_total{method="OTHER",route="unmatched",status="404"} 1"#,
            r#"http_request_duration_seconds_bucket{le="0.005",method="GET",route="/v1/rooms/{id}"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
