//! Who is asking: checks bearer tokens (JWT) against the keys of one issuer.
//!
//! Invariants: the algorithm comes from our configuration and the key's own type, never from the token
//! alone; `iss`, `aud` and `exp` are required; no part of a token appears in a log line or an answer,
//! and none is ever taken from a URL.

mod key_ring;
mod keys;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts, Request};
use chrono::{DateTime, Utc};
use clap::Args;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use jsonwebtoken::Algorithm;
use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;

pub use self::key_ring::{JWT_KEYS_READ_TIMESTAMP_SECONDS, KeyWatch};
use self::key_ring::{KeyRing, NoKey};
use crate::duration;
use crate::health::Dependency;
use crate::metrics::Metrics;
use crate::problem::Problem;

#[derive(Args, Clone, Debug)]
pub struct AuthConfig {
    /// Keys that tokens are signed with: path of a JWKS file, or its http(s) URL. Read again while the
    /// service runs: a file every 5 seconds, and either when a token names an unknown key
    #[arg(long, env = "JWT_JWKS", value_name = "PATH|URL")]
    pub jwt_jwks: String,
    /// How often the keys of a URL are read: a key that was taken back works no longer than that
    /// [at least 10s, at most 1h]
    #[arg(long, env = "JWT_REFRESH", default_value = "5m", value_parser = refresh, value_name = "DURATION")]
    pub jwt_refresh: Duration,
    /// Required `iss` of a token
    #[arg(long, env = "JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: String,
    /// Required `aud` of a token
    #[arg(long, env = "JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: String,
    /// Signature algorithms to accept; only asymmetric ones
    #[arg(long, env = "JWT_ALGORITHMS", value_delimiter = ',', value_parser = asymmetric,
          default_value = "EdDSA,ES256,RS256", value_name = "NAMES")]
    pub jwt_algorithms: Vec<Algorithm>,
    /// How far clocks may differ when `exp` and `nbf` are checked [at most 5m]
    #[arg(long, env = "JWT_LEEWAY", default_value = "30s", value_parser = leeway, value_name = "DURATION")]
    pub jwt_leeway: Duration,
}

fn asymmetric(name: &str) -> Result<Algorithm, String> {
    match name.parse() {
        Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) => {
            Err("a symmetric algorithm would let every service that checks tokens issue them".to_owned())
        }
        Ok(algorithm) => Ok(algorithm),
        Err(_) => Err("unknown algorithm".to_owned()),
    }
}

fn leeway(text: &str) -> Result<Duration, String> {
    let leeway = duration::parse(text)?;
    if leeway > Duration::from_mins(5) {
        return Err("more than 5m would keep expired tokens alive; set the clocks".to_owned());
    }
    Ok(leeway)
}

fn refresh(text: &str) -> Result<Duration, String> {
    let refresh = duration::parse(text)?;
    if !(Duration::from_secs(10)..=Duration::from_hours(1)).contains(&refresh) {
        return Err("must be from 10s to 1h".to_owned());
    }
    Ok(refresh)
}

/// The key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error(
        "cannot read the JWKS file {path}; JWT_JWKS must be the path of a readable file or an http(s) URL"
    )]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot fetch the JWKS from {url}; check JWT_JWKS and that the address answers")]
    Fetch { url: String, source: reqwest::Error },
    #[error("what {url} answers is longer than the {limit} bytes that a JWKS may have")]
    TooLarge { url: String, limit: usize },
    #[error("{origin} is not a JSON Web Key Set")]
    Parse {
        origin: String,
        source: serde_json::Error,
    },
    #[error("{origin} has no key with a `kid` for the algorithms {algorithms:?}")]
    NoUsableKey {
        origin: String,
        algorithms: Vec<Algorithm>,
    },
}

impl AuthError {
    /// The server is away or not able to answer now, which says nothing about the configuration.
    fn is_transient(&self) -> bool {
        let Self::Fetch { source, .. } = self else {
            return false;
        };
        match source.status() {
            Some(status) => status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
            None => !source.is_builder(),
        }
    }
}

/// Checks tokens. Share it as `Arc` in the router's state.
#[derive(Debug)]
pub struct Authenticator {
    keys: KeyRing,
}

/// Who the token says is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Positive.
    pub id: i64,
    pub expires_at: DateTime<Utc>,
}

/// What [`Authenticator::identify`] has found out.
#[derive(Clone)]
struct Asking(Result<Member, Problem>);

/// Optional only for the parser: the validation refuses a token without them, and says so.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
}

impl Authenticator {
    /// Reads the key set; what comes second has to run for the keys to stay up to date.
    ///
    /// `jwks` is down until keys were read once: a server that is away is waited for.
    ///
    /// # Errors
    /// If the key set can be read and not be used, and if a file cannot be read.
    pub async fn load(
        config: &AuthConfig,
        metrics: &Metrics,
        jwks: Dependency,
    ) -> Result<(Self, KeyWatch), AuthError> {
        let (keys, watch) = key_ring::open(config, metrics, jwks).await?;
        Ok((Self { keys }, watch))
    }

    /// The member that `Authorization: Bearer …` proves, or a 401 that says what is wrong with it.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Member, Problem> {
        self.verify(bearer(headers)?).await
    }

    /// Finds out who is asking and keeps it in the request for [`Member`]: whatever comes behind waits for no key.
    pub async fn identify(&self, request: &mut Request) {
        let asking = Asking(self.authenticate(request.headers()).await);
        request.extensions_mut().insert(asking);
    }

    /// The member that the token proves.
    pub async fn verify(&self, token: &str) -> Result<Member, Problem> {
        const MALFORMED: &str = "The token is malformed: it is not a signed JSON Web Token.";
        let refused = |reason: &str| Problem::unauthenticated(reason);

        let header = jsonwebtoken::decode_header(token).map_err(|_| refused(MALFORMED))?;
        if header.crit.is_some() {
            return Err(refused(
                "The token relies on an extension that is not known here: `crit`.",
            ));
        }
        let kid = header
            .kid
            .ok_or_else(|| refused("The token's header names no key: `kid` is missing."))?;
        let key = self.keys.key(&kid).await.map_err(|no_key| match no_key {
            NoKey::Unknown => refused("The token is not signed with a known key."),
            NoKey::Unread(pause) => Problem::unavailable(pause).detail(
                "The keys that tokens are checked with cannot be read at the moment. Try again later.",
            ),
        })?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &key.validation)
            .map_err(|e| {
                refused(match e.kind() {
                    ErrorKind::ExpiredSignature => "The token has expired.",
                    ErrorKind::ImmatureSignature => "The token is not valid yet.",
                    ErrorKind::InvalidIssuer => "The token was issued by someone else.",
                    ErrorKind::InvalidAudience => "The token is meant for another audience.",
                    ErrorKind::InvalidSignature => "The token's signature is wrong.",
                    ErrorKind::InvalidAlgorithm => "The token's algorithm is not accepted for its key.",
                    ErrorKind::MissingRequiredClaim(_) => {
                        "The token lacks a claim: `iss`, `aud`, `exp` and `sub` are required."
                    }
                    ErrorKind::Json(_) | ErrorKind::InvalidClaimFormat(_) => {
                        "A claim of the token is of the wrong type: `sub` is text, `exp` and `nbf` are numbers."
                    }
                    _ => MALFORMED,
                })
            })?
            .claims;
        let id = claims
            .sub
            .as_deref()
            .and_then(member_id)
            .ok_or_else(|| refused("The token's `sub` is not a member id."))?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, and is checked by from_timestamp"
        )]
        let expires_at = DateTime::from_timestamp(claims.exp.unwrap_or_default() as i64, 0)
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        Ok(Member { id, expires_at })
    }
}

/// The token of the Authorization header, unchecked.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(Problem::unauthenticated(
            "The request has no Authorization header. Send `Authorization: Bearer <token>`.",
        ));
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .and_then(|(scheme, token)| {
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim())
                .filter(|token| !token.is_empty())
        })
        .ok_or_else(|| {
            Problem::unauthenticated("The Authorization header is not of the form `Bearer <token>`.")
        })
}

/// Exactly the decimal digits of a positive number, so that one member has one spelling.
fn member_id(sub: &str) -> Option<i64> {
    let id = sub.parse().ok().filter(|id: &i64| *id > 0)?;
    (id.to_string() == sub).then_some(id)
}

impl<S> FromRequestParts<S> for Member
where
    S: Send + Sync,
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if let Some(Asking(member)) = parts.extensions.get() {
            return member.clone();
        }
        Arc::<Authenticator>::from_ref(state)
            .authenticate(&parts.headers)
            .await
    }
}

#[cfg(test)]
mod tests;
