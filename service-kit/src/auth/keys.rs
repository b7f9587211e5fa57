//! From a JSON Web Key Set to the keys that can check tokens, and what each may check.
//!
//! Invariant: a key is used with algorithms that are configured, that fit its type and that it does
//! not exclude itself; what a token says plays no part.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;
use tracing::warn;

use super::AuthConfig;

/// By `kid`.
pub(super) type Keys = HashMap<String, Arc<Key>>;

pub(super) struct Key {
    pub key: DecodingKey,
    /// With the algorithms of this key.
    pub validation: Validation,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.validation.algorithms).finish()
    }
}

/// Keys are read one by one: a set may hold some of a kind that is not known here.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The usable keys of the set. Of one that is not, the reason is logged.
pub(super) fn parse(json: &[u8], config: &AuthConfig) -> Result<Keys, serde_json::Error> {
    let set: Set = serde_json::from_slice(json)?;
    let mut keys = Keys::new();
    for value in &set.keys {
        let added = usable(value, config).and_then(|(kid, key)| {
            if keys.contains_key(&kid) {
                return Err("another key has the same `kid`".to_owned());
            }
            keys.insert(kid, Arc::new(key));
            Ok(())
        });
        if let Err(reason) = added {
            let kid = value["kid"].as_str();
            warn!(
                jwt.kid = kid,
                "a key of {} is left out: {reason}", config.jwt_jwks
            );
        }
    }
    Ok(keys)
}

fn usable(value: &Value, config: &AuthConfig) -> Result<(String, Key), String> {
    let jwk = Jwk::deserialize(value).map_err(|e| e.to_string())?;
    let kid = jwk.common.key_id.clone().ok_or("it has no `kid`")?;
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return Err("it is for encryption".to_owned());
    }
    let own: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms(),
        _ => return Err("its type is not supported".to_owned()),
    };
    let declared = jwk.common.key_algorithm;
    let algorithms: Vec<Algorithm> = own
        .iter()
        .copied()
        .filter(|algorithm| config.jwt_algorithms.contains(algorithm))
        .filter(|algorithm| declared.is_none_or(|declared| declared == KeyAlgorithm::from(*algorithm)))
        .collect();
    if algorithms.is_empty() {
        return Err(format!(
            "none of its algorithms is among {:?}",
            config.jwt_algorithms
        ));
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|e| e.to_string())?;
    let validation = validation(algorithms, config);
    Ok((kid, Key { key, validation }))
}

fn validation(algorithms: Vec<Algorithm>, config: &AuthConfig) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.algorithms = algorithms;
    validation.set_issuer(&[&config.jwt_issuer]);
    validation.set_audience(&[&config.jwt_audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = config.jwt_leeway.as_secs();
    validation
}
