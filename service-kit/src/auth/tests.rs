//! Tokens of a real key pair, and every way in which one can be wrong.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Parser;
use http::{HeaderValue, Request};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::clock;

struct Issuer {
    signing: EncodingKey,
    jwk: Value,
}

impl Issuer {
    fn new(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        Self {
            signing: EncodingKey::from_ed_der(der.as_ref()),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}),
        }
    }

    fn token(&self, kid: Option<&str>, claims: &Value) -> String {
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

fn config(jwks: &str) -> AuthConfig {
    let cli = [
        "x",
        "--jwt-jwks",
        jwks,
        "--jwt-issuer",
        "issuer",
        "--jwt-audience",
        "marketplace",
    ];
    Cli::try_parse_from(cli).unwrap().auth
}

fn authenticator(keys: &[&Value]) -> Result<Authenticator, AuthError> {
    Authenticator::from_json(
        &config("jwks.json"),
        json!({ "keys": keys }).to_string().as_bytes(),
    )
}

fn claims(change: &[(&str, Value)]) -> Value {
    let exp = clock::now().timestamp() + 60;
    let mut claims = json!({"sub": "7", "iss": "issuer", "aud": ["other", "marketplace"], "exp": exp});
    for (name, value) in change {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn a_good_token_gives_the_member_and_its_expiry() {
    let issuer = Issuer::new("k1");
    let authenticator = authenticator(&[&issuer.jwk]).unwrap();
    let claims = claims(&[]);
    let member = authenticator.member(&issuer.token(Some("k1"), &claims)).unwrap();
    assert_eq!(
        (member.id, member.expires_at.timestamp()),
        (7, claims["exp"].as_i64().unwrap())
    );
}

const MALFORMED: &str = "The token is malformed: it is not a signed JSON Web Token.";

#[test]
fn every_wrong_token_is_refused_with_its_reason() {
    let issuer = Issuer::new("k1");
    let authenticator = authenticator(&[&issuer.jwk]).unwrap();
    let now = clock::now().timestamp();
    let refused = |token: &str| authenticator.member(token).unwrap_err();
    let with = |change: &[(&str, Value)]| refused(&issuer.token(Some("k1"), &claims(change)));
    assert_eq!(with(&[("exp", json!(now - 6))]), "The token has expired.");
    assert_eq!(with(&[("nbf", json!(now + 60))]), "The token is not valid yet.");
    assert_eq!(
        with(&[("iss", json!("someone"))]),
        "The token was issued by someone else."
    );
    assert_eq!(
        with(&[("aud", json!("elsewhere"))]),
        "The token is meant for another audience."
    );
    for claim in ["exp", "iss", "aud", "sub"] {
        let reason = with(&[(claim, Value::Null)]);
        assert_eq!(
            reason, "The token lacks a claim: `iss`, `aud`, `exp` and `sub` are required.",
            "{claim}"
        );
    }
    for sub in ["", "0", "-1", "+1", "01", " 1", "seven", "9223372036854775808"] {
        assert_eq!(
            with(&[("sub", json!(sub))]),
            "The token's `sub` is not a member id.",
            "{sub:?}"
        );
    }

    let good = issuer.token(Some("k1"), &claims(&[]));
    assert_eq!(
        refused(&issuer.token(None, &claims(&[]))),
        "The token's header names no key: `kid` is missing."
    );
    assert_eq!(
        refused(&issuer.token(Some("k2"), &claims(&[]))),
        "The token is not signed with a known key."
    );
    assert_eq!(
        refused(&Issuer::new("k1").token(Some("k1"), &claims(&[]))),
        "The token's signature is wrong."
    );
    for text in [
        "x",
        "a.b.c",
        "..",
        &good[..good.len() / 2],
        &good.replace('.', " "),
    ] {
        assert_eq!(refused(text), MALFORMED, "{text}");
    }
}

#[test]
fn the_algorithm_never_comes_from_the_token_alone() {
    let issuer = Issuer::new("k1");
    let authenticator = authenticator(&[&issuer.jwk]).unwrap();
    // The public key, which everybody has, used as the secret of a symmetric signature.
    let secret = URL_SAFE_NO_PAD.decode(issuer.jwk["x"].as_str().unwrap()).unwrap();
    let header = Header {
        kid: Some("k1".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let forged = jsonwebtoken::encode(&header, &claims(&[]), &EncodingKey::from_secret(&secret)).unwrap();
    assert_eq!(
        authenticator.member(&forged).unwrap_err(),
        "The token's algorithm is not accepted for its key."
    );

    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!(
        "{}.{}.",
        encode(&json!({"alg": "none", "kid": "k1"})),
        encode(&claims(&[]))
    );
    assert!(authenticator.member(&unsigned).is_err());
}

#[test]
fn keys_that_cannot_be_used_are_left_out() {
    let good = Issuer::new("good").jwk;
    let with = |kid: &str, change: &[(&str, Value)]| {
        let mut jwk = Issuer::new(kid).jwk;
        for (name, value) in change {
            jwk[name] = value.clone();
        }
        jwk
    };
    let unusable = [
        with("encryption", &[("use", json!("enc"))]),
        with("x25519", &[("crv", json!("X25519"))]),
        with("another algorithm", &[("alg", json!("ES256"))]),
        json!({"kty": "oct", "kid": "symmetric", "k": "c2VjcmV0"}),
        json!({"kty": "EC", "crv": "P-384", "kid": "not configured", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": good["x"]}),
        json!({"kty": "AKP", "kid": "from the future"}),
    ];
    for jwk in &unusable {
        // Some are refused by the parser of the whole set, others one by one; both is a refusal.
        assert!(authenticator(&[jwk]).is_err(), "{jwk}");
    }
    let kept = [&unusable[0], &unusable[3], &unusable[5], &good];
    assert_eq!(
        authenticator(&kept).unwrap().keys.into_keys().collect::<Vec<_>>(),
        ["good"]
    );
}

#[test]
fn symmetric_algorithms_cannot_be_configured() {
    let cli = [
        "x",
        "--jwt-jwks",
        "f",
        "--jwt-issuer",
        "i",
        "--jwt-audience",
        "a",
        "--jwt-algorithms",
    ];
    for algorithms in ["HS256", "EdDSA,HS512", "none", ""] {
        assert!(
            Cli::try_parse_from(cli.iter().chain([&algorithms])).is_err(),
            "{algorithms}"
        );
    }
    assert!(Cli::try_parse_from(cli.iter().chain([&"ES384,PS256"])).is_ok());
}

#[tokio::test]
async fn a_key_set_is_read_from_a_file_or_a_url_and_errors_say_which() {
    let jwks = json!({"keys": [Issuer::new("k1").jwk]}).to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, &jwks).unwrap();
    assert!(Authenticator::load(&config(file.to_str().unwrap())).await.is_ok());
    std::fs::write(&file, "{}").unwrap();
    let error = Authenticator::load(&config(file.to_str().unwrap()))
        .await
        .unwrap_err();
    assert!(matches!(error, AuthError::Parse { .. }), "{error}");
    let error = Authenticator::load(&config("/nowhere/jwks.json"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nowhere/jwks.json"), "{error}");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let app = Router::new().route("/jwks", get(async || jwks));
    let stop = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(crate::server::serve(listener, app, stop.clone(), Duration::ZERO));
    assert!(Authenticator::load(&config(&url)).await.is_ok());
    assert!(matches!(
        Authenticator::load(&config(&format!("{url}/x"))).await,
        Err(AuthError::Fetch { .. })
    ));
    stop.cancel();
    server.await.unwrap().unwrap();
    assert!(matches!(
        Authenticator::load(&config(&url)).await,
        Err(AuthError::Fetch { .. })
    ));
}

#[tokio::test]
async fn a_handler_gets_the_member_or_the_client_a_401() {
    let issuer = Issuer::new("k1");
    let authenticator = Arc::new(authenticator(&[&issuer.jwk]).unwrap());
    let app = Router::new()
        .route("/", get(async |member: Member| member.id.to_string()))
        .with_state(authenticator);
    let token = issuer.token(Some("k1"), &claims(&[]));
    let send = async |header: Option<String>| {
        let mut request = Request::get("/").body(Body::empty()).unwrap();
        if let Some(header) = header {
            request
                .headers_mut()
                .insert(AUTHORIZATION, HeaderValue::from_str(&header).unwrap());
        }
        app.clone().oneshot(request).await.unwrap()
    };
    assert_eq!(send(Some(format!("Bearer {token}"))).await.status(), 200);
    assert_eq!(send(Some(format!("bearer  {token}"))).await.status(), 200);
    for header in [
        None,
        Some(String::new()),
        Some("Bearer".into()),
        Some("Bearer ".into()),
        Some(token.clone()),
    ] {
        let response = send(header.clone()).await;
        assert_eq!(response.status(), 401, "{header:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
    assert_eq!(send(Some(format!("Basic {token}"))).await.status(), 401);
}
