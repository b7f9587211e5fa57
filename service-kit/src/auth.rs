//! Who is asking: checks bearer tokens (JWT) against the keys of one issuer.
//!
//! Invariants: the algorithm comes from our configuration and the key's own type, never from the token
//! alone; `iss`, `aud` and `exp` are required; no part of a token appears in a log line or an answer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use chrono::{DateTime, Utc};
use clap::Args;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use tracing::{info, warn};

use crate::problem::Problem;

/// How long the fetch of a key set by URL may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args, Clone, Debug)]
pub struct AuthConfig {
    /// Keys that tokens are signed with: path of a JWKS file, or its http(s) URL. Read at start
    #[arg(long, env = "JWT_JWKS", value_name = "PATH|URL")]
    pub jwt_jwks: String,
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
    /// How many seconds clocks may differ when `exp` and `nbf` are checked
    #[arg(long, env = "JWT_LEEWAY_SECONDS", default_value_t = 5, value_name = "SECONDS")]
    pub jwt_leeway_seconds: u64,
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

/// The key set cannot be used; the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error(
        "cannot read the JWKS file {path}; JWT_JWKS must be the path of a readable file or an http(s) URL"
    )]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot fetch the JWKS from {url}; check JWT_JWKS and that the address answers")]
    Fetch { url: String, source: reqwest::Error },
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

/// Checks tokens. Share it as `Arc` in the router's state.
pub struct Authenticator {
    keys: HashMap<String, Key>,
    validation: Validation,
}

struct Key {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("kids", &self.keys.keys())
            .finish_non_exhaustive()
    }
}

/// Who the token says is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Positive.
    pub id: i64,
    pub expires_at: DateTime<Utc>,
}

/// Optional only for the parser: the validation refuses a token without them, and says so.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
}

impl Authenticator {
    /// Reads the key set once. A key that cannot check any of the configured algorithms is left out.
    pub async fn load(config: &AuthConfig) -> Result<Self, AuthError> {
        let origin = config.jwt_jwks.as_str();
        let json = if origin.starts_with("http://") || origin.starts_with("https://") {
            fetch(origin).await.map_err(|source| AuthError::Fetch {
                url: origin.to_owned(),
                source,
            })?
        } else {
            tokio::fs::read(origin).await.map_err(|source| AuthError::File {
                path: PathBuf::from(origin),
                source,
            })?
        };
        Self::from_json(config, &json)
    }

    fn from_json(config: &AuthConfig, json: &[u8]) -> Result<Self, AuthError> {
        let origin = || config.jwt_jwks.clone();
        let set: JwkSet = serde_json::from_slice(json).map_err(|source| AuthError::Parse {
            origin: origin(),
            source,
        })?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            match usable(jwk, &config.jwt_algorithms) {
                Ok((kid, key)) => _ = keys.insert(kid, key),
                Err(reason) => {
                    warn!(
                        jwt.kid = jwk.common.key_id,
                        "a key of {} is left out: {reason}", config.jwt_jwks
                    );
                }
            }
        }
        if keys.is_empty() {
            return Err(AuthError::NoUsableKey {
                origin: origin(),
                algorithms: config.jwt_algorithms.clone(),
            });
        }
        info!(
            keys = keys.len(),
            "tokens of {} are checked with the keys of {}", config.jwt_issuer, config.jwt_jwks
        );

        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&config.jwt_issuer]);
        validation.set_audience(&[&config.jwt_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = config.jwt_leeway_seconds;
        Ok(Self { keys, validation })
    }

    /// The member that `Authorization: Bearer …` proves, or a 401 that says what is wrong with it.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Member, Problem> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(Problem::unauthenticated(
                "The request has no Authorization header. Send `Authorization: Bearer <token>`.",
            ));
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .and_then(|(scheme, token)| {
                scheme
                    .eq_ignore_ascii_case("bearer")
                    .then(|| token.trim())
                    .filter(|token| !token.is_empty())
            });
        match token {
            Some(token) => self.member(token).map_err(Problem::unauthenticated),
            None => Err(Problem::unauthenticated(
                "The Authorization header is not of the form `Bearer <token>`.",
            )),
        }
    }

    fn member(&self, token: &str) -> Result<Member, &'static str> {
        const MALFORMED: &str = "The token is malformed: it is not a signed JSON Web Token.";
        const UNKNOWN_KEY: &str = "The token is not signed with a known key.";

        let header = jsonwebtoken::decode_header(token).map_err(|_| MALFORMED)?;
        let kid = header
            .kid
            .ok_or("The token's header names no key: `kid` is missing.")?;
        let key = self.keys.get(&kid).ok_or(UNKNOWN_KEY)?;
        let validation = Validation {
            algorithms: key.algorithms.clone(),
            ..self.validation.clone()
        };
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &validation)
            .map_err(|e| match e.kind() {
                ErrorKind::ExpiredSignature => "The token has expired.",
                ErrorKind::ImmatureSignature => "The token is not valid yet.",
                ErrorKind::InvalidIssuer => "The token was issued by someone else.",
                ErrorKind::InvalidAudience => "The token is meant for another audience.",
                ErrorKind::InvalidSignature => "The token's signature is wrong.",
                ErrorKind::InvalidAlgorithm => "The token's algorithm is not accepted for its key.",
                ErrorKind::MissingRequiredClaim(_) => {
                    "The token lacks a claim: `iss`, `aud`, `exp` and `sub` are required."
                }
                _ => MALFORMED,
            })?
            .claims;
        let id = claims
            .sub
            .as_deref()
            .and_then(member_id)
            .ok_or("The token's `sub` is not a member id.")?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, and is checked by from_timestamp"
        )]
        let expires_at = DateTime::from_timestamp(claims.exp.unwrap_or_default() as i64, 0)
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        Ok(Member { id, expires_at })
    }
}

/// Exactly the decimal digits of a positive number, so that one member has one spelling.
fn member_id(sub: &str) -> Option<i64> {
    let id = sub.parse().ok().filter(|id: &i64| *id > 0)?;
    (id.to_string() == sub).then_some(id)
}

async fn fetch(url: &str) -> Result<Vec<u8>, reqwest::Error> {
    let client = reqwest::Client::builder().timeout(FETCH_TIMEOUT).build()?;
    let answer = client.get(url).send().await?.error_for_status()?;
    Ok(answer.bytes().await?.to_vec())
}

/// The key with the algorithms it may be used with: those of its own type that are configured.
fn usable(jwk: &Jwk, configured: &[Algorithm]) -> Result<(String, Key), String> {
    let kid = jwk.common.key_id.clone().ok_or("it has no `kid`")?;
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return Err("it is for encryption".to_owned());
    }
    let own: Vec<Algorithm> = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => vec![Algorithm::ES384],
        AlgorithmParameters::RSA(_) => jsonwebtoken::AlgorithmFamily::Rsa.algorithms().to_vec(),
        _ => return Err("its type is not supported".to_owned()),
    };
    // A key that says which algorithm it is for is used for no other.
    let declared = jwk.common.key_algorithm;
    let algorithms: Vec<Algorithm> = own
        .into_iter()
        .filter(|algorithm| configured.contains(algorithm))
        .filter(|algorithm| declared.is_none_or(|declared| declared == KeyAlgorithm::from(*algorithm)))
        .collect();
    if algorithms.is_empty() {
        return Err(format!("none of its algorithms is among {configured:?}"));
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|e| e.to_string())?;
    Ok((kid, Key { key, algorithms }))
}

impl<S> FromRequestParts<S> for Member
where
    S: Send + Sync,
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Arc::<Authenticator>::from_ref(state).authenticate(&parts.headers)
    }
}

#[cfg(test)]
mod tests;
