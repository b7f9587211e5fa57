//! Tokens for local use: an Ed25519 key of each local stack signs them, its public half is a JWKS file
//! that the services check them with. The private key never leaves the stack's folder.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::digest;

pub const ISSUER: &str = "local-stack";
pub const AUDIENCE: &str = "marketplace";

/// Members for trying things.
pub const SELLER: i64 = 101;
pub const BUYER: i64 = 202;
/// How long their tokens are valid: a day.
pub const SAMPLE_TTL: Duration = Duration::from_hours(24);

const KEY_FILE: &str = "token-key.pk8";
const JWKS_FILE: &str = "jwks.json";
const MEMBERS_FILE: &str = "demo-members.json";

pub struct Signer {
    key: EncodingKey,
    key_id: String,
    public_key: Vec<u8>,
    jwks_path: PathBuf,
}

#[derive(Serialize)]
struct Claims {
    iss: &'static str,
    aud: &'static str,
    sub: String,
    iat: i64,
    exp: i64,
}

impl Signer {
    /// The signer of the stack in that folder; its key and JWKS file are made at the first call.
    pub fn open_or_create(folder: &Path) -> Result<Self> {
        let path = folder.join(KEY_FILE);
        if !path.exists() {
            let pair = Ed25519KeyPair::generate().map_err(|_| anyhow!("no key could be made"))?;
            let document = pair
                .to_pkcs8()
                .map_err(|_| anyhow!("the new key could not be encoded"))?;
            write_secret(&path, document.as_ref())?;
        }
        let signer = Self::open(folder)?;
        std::fs::write(&signer.jwks_path, signer.jwks_json())
            .with_context(|| format!("{} could not be written", signer.jwks_path.display()))?;
        Ok(signer)
    }

    /// The signer of a stack that has been started in that folder before.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(KEY_FILE);
        let document = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(anyhow!(
                    "there is no key in {}: start a stack there first (`cargo local-stack up`) or name its folder \
                     with --data-dir",
                    folder.display()
                ));
            }
            document => document.with_context(|| format!("{} could not be read", path.display()))?,
        };
        let pair = Ed25519KeyPair::from_pkcs8(&document).map_err(|_| {
            anyhow!(
                "{} holds no Ed25519 key; remove it and start the stack again",
                path.display()
            )
        })?;
        let public_key = pair.public_key().as_ref().to_vec();
        Ok(Self {
            key: EncodingKey::from_ed_der(&document),
            key_id: digest(&public_key),
            public_key,
            jwks_path: folder.join(JWKS_FILE),
        })
    }

    /// The file that services read the public key from (`JWT_JWKS`).
    pub fn jwks_path(&self) -> &Path {
        &self.jwks_path
    }

    pub fn jwks_json(&self) -> String {
        let key = serde_json::json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "alg": "EdDSA",
            "use": "sig",
            "kid": self.key_id,
            "x": BASE64_URL_SAFE_NO_PAD.encode(&self.public_key),
        });
        serde_json::json!({ "keys": [key] }).to_string()
    }

    /// A token of that member, valid for `ttl` from now.
    pub fn token(&self, member_id: i64, ttl: Duration) -> Result<String> {
        let now = service_kit::clock::now().timestamp();
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: member_id.to_string(),
            iat: now,
            exp: now.saturating_add_unsigned(ttl.as_secs()),
        };
        let header = Header {
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        jsonwebtoken::encode(&header, &claims, &self.key).context("the token could not be signed")
    }

    /// Writes the file of members that chat-service's demo page may be tried as (`DEMO`), by name and id.
    pub fn write_members(&self, members: &[(&str, i64)]) -> Result<PathBuf> {
        let members = members.iter().map(|(name, id)| {
            let token = self.token(*id, SAMPLE_TTL)?;
            Ok(serde_json::json!({ "name": name, "token": token }))
        });
        let members = members.collect::<Result<Vec<_>>>()?;
        let path = self.jwks_path.with_file_name(MEMBERS_FILE);
        write_secret(&path, serde_json::Value::from(members).to_string().as_bytes())?;
        Ok(path)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// Writes under another name first: whoever reads the file finds all of it.
fn write_secret(path: &Path, content: &[u8]) -> Result<()> {
    let unfinished = path.with_extension(format!("{}", std::process::id()));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path).with_context(|| format!("{} could not be written", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
    use serde_json::Value;

    use super::*;

    #[test]
    fn tokens_are_accepted_with_the_key_of_the_jwks_file() {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::open_or_create(folder.path()).unwrap();
        let token = signer.token(101, Duration::from_mins(1)).unwrap();

        let keys: JwkSet = serde_json::from_slice(&std::fs::read(signer.jwks_path()).unwrap()).unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation)
            .unwrap()
            .claims;
        assert_eq!(claims["sub"], "101");
        assert_eq!(
            claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
            60
        );
    }

    #[test]
    fn the_key_is_kept_and_nobody_else_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = Signer::open_or_create(folder.path()).unwrap();
        let again = Signer::open_or_create(folder.path()).unwrap();
        assert_eq!(first.jwks_json(), again.jwks_json());
        let mode = folder
            .path()
            .join(KEY_FILE)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn without_a_stack_the_error_says_how_to_get_one() {
        let folder = tempfile::tempdir().unwrap();
        let message = Signer::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("cargo local-stack up"), "{message}");
    }
}
