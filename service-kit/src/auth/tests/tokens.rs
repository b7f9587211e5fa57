//! Every way in which a token can be wrong.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{HeaderValue, Request};
use tower::ServiceExt;

use super::*;

fn unauthenticated(reason: &str) -> String {
    format!("401 Authentication required: {reason}")
}

const MALFORMED: &str = "The token is malformed: it is not a signed JSON Web Token.";
const LACKS: &str = "The token lacks a claim: `iss`, `aud`, `exp` and `sub` are required.";
const TYPE: &str = "A claim of the token is of the wrong type: `sub` is text, `exp` and `nbf` are numbers.";
const NO_MEMBER: &str = "The token's `sub` is not a member id.";

#[tokio::test]
async fn a_good_token_gives_the_member_and_its_expiry() {
    let issuer = Issuer::new("k1");
    let authenticator = authenticator(&[&issuer.jwk]).await.unwrap();
    let claims = claims(&[]);
    let member = authenticator
        .verify(&issuer.sign(Some("k1"), &claims))
        .await
        .unwrap();
    assert_eq!(
        (member.id, member.expires_at.timestamp()),
        (7, claims["exp"].as_i64().unwrap())
    );
}

#[tokio::test]
async fn every_wrong_token_is_refused_with_its_reason() {
    let (issuer, other) = (Issuer::new("k1"), Issuer::new("k2"));
    let authenticator = authenticator(&[&issuer.jwk, &other.jwk]).await.unwrap();
    let now = clock::now().timestamp();
    for (claim, value, reason) in [
        ("exp", json!(now - 31), "The token has expired."),
        ("exp", Value::Null, LACKS),
        ("exp", json!("tomorrow"), TYPE),
        ("nbf", json!(now + 60), "The token is not valid yet."),
        ("iss", json!("someone"), "The token was issued by someone else."),
        ("iss", Value::Null, LACKS),
        (
            "aud",
            json!("elsewhere"),
            "The token is meant for another audience.",
        ),
        ("aud", json!([]), "The token is meant for another audience."),
        ("aud", Value::Null, LACKS),
        ("sub", Value::Null, LACKS),
        ("sub", json!(7), TYPE),
        ("nbf", json!("now"), TYPE),
        ("sub", json!(""), NO_MEMBER),
        ("sub", json!("0"), NO_MEMBER),
        ("sub", json!("-1"), NO_MEMBER),
        ("sub", json!("+1"), NO_MEMBER),
        ("sub", json!("01"), NO_MEMBER),
        ("sub", json!(" 1"), NO_MEMBER),
        ("sub", json!("1.0"), NO_MEMBER),
        ("sub", json!("seven"), NO_MEMBER),
        ("sub", json!("９"), NO_MEMBER),
        ("sub", json!("9223372036854775808"), NO_MEMBER),
    ] {
        let token = issuer.sign(Some("k1"), &claims(&[(claim, value.clone())]));
        let refusal = authenticator.refusal(&token).await;
        assert_eq!(refusal, unauthenticated(reason), "{claim}: {value}");
    }

    let good = issuer.token();
    let impostor = Issuer::new("k1").token();
    for (token, reason) in [
        (
            issuer.sign(None, &claims(&[])),
            "The token's header names no key: `kid` is missing.",
        ),
        (
            issuer.sign(Some("k3"), &claims(&[])),
            "The token is not signed with a known key.",
        ),
        (
            issuer.sign(Some("k2"), &claims(&[])),
            "The token's signature is wrong.",
        ),
        (impostor, "The token's signature is wrong."),
        ("x".to_owned(), MALFORMED),
        ("a.b.c".to_owned(), MALFORMED),
        ("..".to_owned(), MALFORMED),
        (good[..good.len() / 2].to_owned(), MALFORMED),
        (good.replace('.', " "), MALFORMED),
        (format!("{good}.{good}"), MALFORMED),
    ] {
        assert_eq!(
            authenticator.refusal(&token).await,
            unauthenticated(reason),
            "{token}"
        );
    }
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway_and_no_more() {
    let issuer = Issuer::new("k1");
    let authenticator = authenticator(&[&issuer.jwk]).await.unwrap();
    let now = clock::now().timestamp();
    // A second or two may pass here.
    for (claim, at, good) in [
        ("exp", now - 27, true),
        ("exp", now - 31, false),
        ("nbf", now + 29, true),
        ("nbf", now + 33, false),
    ] {
        let token = issuer.sign(Some("k1"), &claims(&[(claim, json!(at))]));
        assert_eq!(
            authenticator.verify(&token).await.is_ok(),
            good,
            "{claim} {}",
            at - now
        );
    }
    assert!(parse("f", &["--jwt-leeway", "5m"]).is_ok());
    assert!(parse("f", &["--jwt-leeway", "0s"]).is_ok());
    for leeway in ["301s", "1h", "30", "-1s"] {
        assert!(parse("f", &["--jwt-leeway", leeway]).is_err(), "{leeway}");
    }
}

#[tokio::test]
async fn the_algorithm_never_comes_from_the_token_alone() {
    let issuer = Issuer::new("k1");
    let authenticator = authenticator(&[&issuer.jwk]).await.unwrap();
    // The public key, which everybody has, used as the secret of a symmetric signature.
    let public = issuer.jwk["x"].as_str().unwrap();
    let header = Header {
        kid: Some("k1".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let raw = URL_SAFE_NO_PAD.decode(public).unwrap();
    let jwk = issuer.jwk.to_string();
    for secret in [raw.as_slice(), public.as_bytes(), jwk.as_bytes()] {
        let forged = jsonwebtoken::encode(&header, &claims(&[]), &EncodingKey::from_secret(secret)).unwrap();
        assert_eq!(
            authenticator.refusal(&forged).await,
            unauthenticated("The token's algorithm is not accepted for its key.")
        );
    }

    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = issuer.token();
    let (_, signature) = good.rsplit_once('.').unwrap();
    for alg in ["none", "None", "NONE", ""] {
        for signature in ["", signature] {
            let header = encode(&json!({"alg": alg, "kid": "k1"}));
            let unsigned = format!("{header}.{}.{signature}", encode(&claims(&[])));
            assert_eq!(
                authenticator.refusal(&unsigned).await,
                unauthenticated(MALFORMED),
                "{alg}"
            );
        }
    }
}

/// Keys and extensions that a token brings along are not for it to choose.
#[tokio::test]
async fn what_a_token_brings_along_is_not_used() {
    let (issuer, stranger) = (Issuer::new("k1"), Issuer::new("k1"));
    let authenticator = authenticator(&[&issuer.jwk]).await.unwrap();
    let header = Header {
        kid: Some("k1".to_owned()),
        jwk: Some(serde_json::from_value(stranger.jwk.clone()).unwrap()),
        ..Header::new(Algorithm::EdDSA)
    };
    let token = jsonwebtoken::encode(&header, &claims(&[]), &stranger.signing).unwrap();
    assert_eq!(
        authenticator.refusal(&token).await,
        unauthenticated("The token's signature is wrong.")
    );
    let header = Header {
        kid: Some("k1".to_owned()),
        crit: Some(vec!["b64".to_owned()]),
        ..Header::new(Algorithm::EdDSA)
    };
    let token = jsonwebtoken::encode(&header, &claims(&[]), &issuer.signing).unwrap();
    assert_eq!(
        authenticator.refusal(&token).await,
        unauthenticated("The token relies on an extension that is not known here: `crit`.")
    );
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_left_out() {
    let good = Issuer::new("good");
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
        json!({"kty": "OKP", "crv": "Ed25519", "x": good.jwk["x"]}),
        json!({"kty": "AKP", "kid": "from the future"}),
        json!("not even an object"),
    ];
    for jwk in &unusable {
        let error = authenticator(&[jwk]).await.unwrap_err();
        assert!(matches!(error, AuthError::NoUsableKey { .. }), "{jwk}: {error}");
    }
    // Nor does one of them spoil the set; the first key of a name is the one.
    let second = Issuer::new("good");
    let all: Vec<&Value> = unusable.iter().chain([&good.jwk, &second.jwk]).collect();
    let authenticator = authenticator(&all).await.unwrap();
    assert!(authenticator.verify(&good.token()).await.is_ok());
    assert!(authenticator.verify(&second.token()).await.is_err());
}

#[test]
fn symmetric_algorithms_cannot_be_configured() {
    for algorithms in ["HS256", "EdDSA,HS512", "none", ""] {
        assert!(
            parse("f", &["--jwt-algorithms", algorithms]).is_err(),
            "{algorithms}"
        );
    }
    assert!(parse("f", &["--jwt-algorithms", "ES384,PS256"]).is_ok());
}

#[tokio::test]
async fn a_handler_gets_the_member_or_the_client_a_401() {
    let issuer = Issuer::new("k1");
    let authenticator = Arc::new(authenticator(&[&issuer.jwk]).await.unwrap());
    let app = Router::new()
        .route("/", get(async |member: Member| member.id.to_string()))
        .with_state(authenticator);
    let token = issuer.token();
    let send = async |path: &str, header: Option<String>| {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        if let Some(header) = header {
            request
                .headers_mut()
                .insert(AUTHORIZATION, HeaderValue::from_str(&header).unwrap());
        }
        app.clone().oneshot(request).await.unwrap()
    };
    assert_eq!(send("/", Some(format!("Bearer {token}"))).await.status(), 200);
    assert_eq!(send("/", Some(format!("bearer  {token}"))).await.status(), 200);
    for header in [
        None,
        Some(String::new()),
        Some("Bearer".into()),
        Some("Bearer ".into()),
        Some(token.clone()),
        Some(format!("Basic {token}")),
    ] {
        let response = send("/", header.clone()).await;
        assert_eq!(response.status(), 401, "{header:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
    for name in ["access_token", "token", "authorization", "jwt"] {
        assert_eq!(
            send(&format!("/?{name}={token}"), None).await.status(),
            401,
            "{name}"
        );
    }
}
