//! Tokens of a real key pair, and an issuer whose keys change.

mod issuer;
mod rotation;
mod tokens;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Parser;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::clock;
use crate::health::Health;

struct Issuer {
    kid: String,
    signing: EncodingKey,
    jwk: Value,
}

impl Issuer {
    fn new(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        Self {
            kid: kid.to_owned(),
            signing: EncodingKey::from_ed_der(der.as_ref()),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}),
        }
    }

    /// A token that nothing is wrong with.
    fn token(&self) -> String {
        self.sign(Some(&self.kid), &claims(&[]))
    }

    fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header {
            kid: kid.map(str::to_owned),
            ..Header::new(Algorithm::EdDSA)
        };
        jsonwebtoken::encode(&header, claims, &self.signing).unwrap()
    }
}

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    auth: AuthConfig,
}

fn parse(jwks: &str, more: &[&str]) -> Result<AuthConfig, clap::Error> {
    let cli = [
        "x",
        "--jwt-jwks",
        jwks,
        "--jwt-issuer",
        "issuer",
        "--jwt-audience",
        "marketplace",
    ];
    Cli::try_parse_from(cli.iter().chain(more)).map(|cli| cli.auth)
}

fn config(jwks: &str) -> AuthConfig {
    parse(jwks, &[]).unwrap()
}

fn jwks(keys: &[&Value]) -> String {
    json!({ "keys": keys }).to_string()
}

async fn load(config: &AuthConfig) -> Result<(Authenticator, KeyWatch), AuthError> {
    Authenticator::load(config, &Metrics::new(), Health::new().dependency("jwks")).await
}

/// With these keys in a file.
async fn authenticator(keys: &[&Value]) -> Result<Authenticator, AuthError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), jwks(keys)).unwrap();
    let (authenticator, _) = load(&config(file.path().to_str().unwrap())).await?;
    Ok(authenticator)
}

fn claims(change: &[(&str, Value)]) -> Value {
    let exp = clock::now().timestamp() + 60;
    let mut claims = json!({"sub": "7", "iss": "issuer", "aud": ["other", "marketplace"], "exp": exp});
    for (name, value) in change {
        claims[name] = value.clone();
    }
    claims
}

impl Authenticator {
    /// Why the token is refused.
    async fn refusal(&self, token: &str) -> String {
        self.verify(token).await.unwrap_err().to_string()
    }
}
