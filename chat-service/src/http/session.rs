//! The session cookie: how a browser's own event stream, which cannot send a header, shows its token.
//!
//! A page hands its token over once, by `PUT /v1/session`, and has it kept where no script reads it.
//! Invariants: off unless the cookie has a name; it is taken for reading the event stream and for
//! nothing else, and only from a page that is allowed to; a request that has an Authorization header is
//! judged by that alone.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, Method, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HeaderName, ORIGIN, SET_COOKIE},
    request::Parts,
};
use service_kit::{
    auth::{Authenticator, Member, bearer},
    clock,
    origin::Origins,
    problem::Problem,
};

use super::{App, AppState};
use crate::config::Config;

/// The only route that browsers send the cookie to.
pub const EVENTS: &str = "/v1/events";
/// Browsers drop a cookie whose name and value are longer, without a word.
const LONGEST: usize = 4096;
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether there are sessions, and whose pages may use them.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// Name of the cookie.
    pub cookie: Option<String>,
    pub origins: Origins,
}

/// Whoever reads the event stream, by token or by cookie.
#[derive(Clone, Copy, Debug)]
pub struct Reader(pub Member);

impl FromRequestParts<AppState> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let token = match state.app.sessions.token(&parts.method, &parts.headers)? {
            Some(token) => token,
            None => bearer(&parts.headers)?,
        };
        let member = state.authenticator.verify(token).await?;
        // The leeway is for clocks, not for streams: one would end at once, and its reader come back.
        if member.expires_at <= clock::now() {
            return Err(Problem::unauthenticated("The token has expired."));
        }
        Ok(Self(member))
    }
}

/// Keep the token in a cookie
///
/// For browsers, whose event streams cannot send a token; valid as long as the token is. Off unless configured.
#[utoipa::path(
    put,
    path = "/v1/session",
    operation_id = "open_session",
    tag = "session",
    responses(
        (
            status = 204,
            description = "The browser has the cookie, for the event stream alone.",
            headers(("Set-Cookie" = String)),
        ),
        (status = 404, description = "`not-found`: this service takes no session cookies."),
        (status = 422, description = "`invalid-input`: the token is longer than a cookie may be."),
    ),
)]
pub async fn open(
    State(app): State<Arc<App>>,
    State(authenticator): State<Arc<Authenticator>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = app.sessions.name()?;
    let token = bearer(&headers)?;
    let member = authenticator.verify(token).await?;
    let length = name.len() + token.len();
    if length > LONGEST {
        return Err(Problem::invalid_input().field(
            "authorization",
            format!("a cookie may have {LONGEST} bytes; with this token it has {length}"),
        ));
    }
    let seconds = (member.expires_at - clock::now()).num_seconds().max(0);
    Ok(set(name, token, seconds))
}

/// Forget the cookie
///
/// It needs no token: the one of the session may have expired.
#[utoipa::path(
    delete,
    path = "/v1/session",
    operation_id = "close_session",
    tag = "session",
    security(()),
    responses(
        (
            status = 204,
            description = "The browser has no cookie.",
            headers(("Set-Cookie" = String)),
        ),
        (status = 404, description = "`not-found`: this service takes no session cookies."),
    ),
)]
pub async fn close(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    Ok(set(app.sessions.name()?, "", 0))
}

fn set(name: &str, token: &str, seconds: i64) -> Response {
    let cookie =
        format!("{name}={token}; Path={EVENTS}; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict");
    let headers = [(SET_COOKIE, cookie), (CACHE_CONTROL, "no-store".to_owned())];
    (StatusCode::NO_CONTENT, headers).into_response()
}

impl Sessions {
    pub fn new(config: &Config) -> Self {
        Self {
            cookie: config.session_cookie.clone(),
            origins: config.origins.clone(),
        }
    }

    fn name(&self) -> Result<&str, Problem> {
        self.cookie.as_deref().ok_or_else(|| {
            Problem::not_found("session")
                .detail("This service takes no session cookies. Send the token with every request.")
        })
    }

    /// The cookie's token, if the request is judged by the cookie.
    fn token<'a>(&self, method: &Method, headers: &'a HeaderMap) -> Result<Option<&'a str>, Problem> {
        let Some(name) = &self.cookie else {
            return Ok(None);
        };
        if method != Method::GET || headers.contains_key(AUTHORIZATION) {
            return Ok(None);
        }
        let Some(token) = cookie(headers, name) else {
            return Ok(None);
        };
        if !self.allows_page_of(headers) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "origin-not-allowed",
                "The page may not use the session",
            )
            .detail(
                "The session cookie is taken from pages of this service's own origin and of those it is \
                 configured to allow. Others send `Authorization: Bearer <token>`.",
            ));
        }
        Ok(Some(token))
    }

    /// Browsers send a cookie whoever asks them to; these headers, which no page can set, say who did.
    fn allows_page_of(&self, headers: &HeaderMap) -> bool {
        match headers.get(ORIGIN) {
            Some(origin) => self.origins.allow(origin),
            // A page's request to its own origin.
            None => headers
                .get(SEC_FETCH_SITE)
                .is_some_and(|site| site == "same-origin"),
        }
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
}

/// Reads the cookie's name from the configuration.
pub fn cookie_name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.is_empty() || !text.bytes().all(plain) {
        return Err("a cookie's name consists of letters, digits and -_.".to_owned());
    }
    if text.to_ascii_lowercase().starts_with("__host-") {
        return Err(format!(
            "browsers take __Host- cookies for all paths only, and this one is for {EVENTS}; begin with __Secure-"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use http::HeaderValue;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        origins: Origins,
    }

    fn headers(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        headers.iter().map(header).collect()
    }

    #[test]
    fn only_a_page_that_may_use_the_session_is_judged_by_the_cookie() {
        let sessions = Sessions {
            cookie: Some("s".to_owned()),
            origins: Cli::parse_from(["x", "--allowed-origin", "https://market.example"]).origins,
        };
        let judged = |more: &[(&'static str, &'static str)]| {
            let mut all = vec![("cookie", "a=1; s=token")];
            all.extend(more);
            sessions
                .token(&Method::GET, &headers(&all))
                .map(|token| token.map(str::to_owned))
        };
        for allowed in [
            &[("sec-fetch-site", "same-origin")] as &[_],
            &[("origin", "https://market.example")],
            &[
                ("origin", "https://market.example"),
                ("sec-fetch-site", "same-site"),
            ],
        ] {
            assert_eq!(judged(allowed).unwrap().as_deref(), Some("token"), "{allowed:?}");
        }
        for refused in [
            &[] as &[_],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[
                ("origin", "https://evil.example"),
                ("sec-fetch-site", "same-origin"),
            ],
        ] {
            let problem = judged(refused).unwrap_err();
            assert_eq!(
                (problem.status().as_u16(), problem.code()),
                (403, "origin-not-allowed"),
                "{refused:?}"
            );
        }
        // Judged by the token.
        assert_eq!(judged(&[("authorization", "")]).unwrap(), None);
        let same = headers(&[("cookie", "s=token"), ("sec-fetch-site", "same-origin")]);
        assert_eq!(sessions.token(&Method::HEAD, &same).unwrap(), None);
        let off = Sessions {
            cookie: None,
            ..sessions
        };
        assert_eq!(off.token(&Method::GET, &same).unwrap(), None);
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let found = |value| cookie(&headers(&[("cookie", value)]), "s").map(str::to_owned);
        assert_eq!(found("s=1"), Some("1".to_owned()));
        assert_eq!(found("as=0;s=1"), Some("1".to_owned()));
        assert_eq!(found("a=s=0; s = a=b "), Some("a=b".to_owned()));
        for without in ["", "s", "S=1", "ss=1", "a=s"] {
            assert_eq!(found(without), None, "{without}");
        }
    }

    #[test]
    fn a_name_that_browsers_refuse_is_refused() {
        assert!(cookie_name("__Secure-session").is_ok());
        for wrong in ["", "a b", "a;b", "a=b", "__Host-session", "세션"] {
            assert!(cookie_name(wrong).is_err(), "{wrong}");
        }
    }
}
