//! Which web pages may use an API from a browser: the list of origins, and CORS made of it.
//!
//! Invariant: an origin is allowed because it is in the list, letter by letter as browsers send it;
//! there is no wildcard, so what is allowed may also carry a cookie.

use std::time::Duration;

use clap::Args;
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION, RETRY_AFTER,
};
use http::{HeaderValue, Method, Uri};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_hours(1);

#[derive(Args, Clone, Debug, Default)]
pub struct Origins {
    /// Origin whose pages may use this API from a browser, such as `https://market.example`; may be
    /// repeated, or separated by commas in the environment. None by default
    #[arg(long, env = "ALLOWED_ORIGIN", value_delimiter = ',', value_parser = origin, value_name = "ORIGIN")]
    pub allowed_origin: Vec<HeaderValue>,
}

impl Origins {
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        self.allowed_origin.contains(origin)
    }

    /// Answers preflights and marks answers for the pages of these origins; `None` if there are none.
    /// `credentials`: browsers may send and keep cookies.
    pub fn cors(&self, credentials: bool) -> Option<CorsLayer> {
        if self.allowed_origin.is_empty() {
            return None;
        }
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(self.allowed_origin.iter().cloned()))
            .allow_methods([
                Method::GET,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ])
            .allow_headers([
                AUTHORIZATION,
                CONTENT_TYPE,
                IF_MATCH,
                IF_NONE_MATCH,
                HeaderName::from_static("idempotency-key"),
                HeaderName::from_static("last-event-id"),
                HeaderName::from_static("x-request-id"),
            ])
            .expose_headers([
                ETAG,
                LOCATION,
                RETRY_AFTER,
                HeaderName::from_static("x-request-id"),
            ])
            .allow_credentials(credentials)
            .max_age(PREFLIGHT_AGE);
        Some(layer)
    }
}

/// Takes an origin only in the spelling that browsers send: any other would never match.
fn origin(text: &str) -> Result<HeaderValue, String> {
    const FORM: &str = "must be scheme://host or scheme://host:port, as in https://market.example";
    let uri: Uri = text.parse().map_err(|_| FORM)?;
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(FORM.to_owned());
    };
    if authority.host().contains('*') {
        return Err(format!("{FORM}; name each origin, there is no wildcard"));
    }
    let spelled = match (scheme, authority.port_u16()) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => format!("{scheme}://{}", authority.host()),
        (_, Some(port)) => format!("{scheme}://{}:{port}", authority.host()),
    }
    .to_lowercase();
    if text != spelled {
        return Err(format!("{FORM}; browsers would send {spelled}"));
    }
    HeaderValue::try_from(spelled).map_err(|_| FORM.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_spelled_as_browsers_send_it() {
        for good in [
            "https://market.example",
            "http://127.0.0.1:8090",
            "https://[::1]:8443",
            "http://localhost",
        ] {
            assert_eq!(origin(good).unwrap(), good);
        }
        for wrong in [
            "",
            "*",
            "null",
            "market.example",
            "https://*",
            "https://market.example/",
            "https://market.example/page",
            "https://market.example?x",
            "https://user@market.example",
            "HTTPS://market.example",
            "https://Market.example",
            "https://market.example:443",
            "http://market.example:80",
            "https://market.example:",
            "ftp://market.example",
            "https://시장.example",
        ] {
            let taken = origin(wrong);
            assert!(taken.is_err(), "{wrong}: {taken:?}");
        }
    }
}
