//! How a Kafka Connect worker is reached: address, credentials, TLS, and how long an answer may take.

use std::{fmt, time::Duration};

use reqwest::{Certificate, Identity, Url, redirect};
use secrecy::{ExposeSecret, SecretString};

use crate::ConnectError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is needed besides the address.
#[derive(Debug, Clone)]
pub struct Access {
    /// User and password of HTTP basic authentication, if they do not stand in the address.
    pub credentials: Option<(String, SecretString)>,
    /// Certificates in PEM of the only authorities to trust; those of the system if there are none.
    pub authorities: Option<Vec<u8>>,
    /// A certificate chain and its private key in PEM, for workers that ask for one.
    pub identity: Option<SecretString>,
    /// For one request.
    pub request_timeout: Duration,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            credentials: None,
            authorities: None,
            identity: None,
            // Connect gives up on a request itself after 90 s and says why.
            request_timeout: Duration::from_secs(100),
        }
    }
}

/// An address that may carry credentials, and the client that goes there.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) http: reqwest::Client,
    /// reqwest turns its credentials into a header.
    pub(crate) base: Url,
    /// The same without credentials.
    pub(crate) shown: String,
    pub(crate) request_timeout: Duration,
}

impl Way {
    pub(crate) fn new(base_url: &str, access: &Access) -> Result<Self, ConnectError> {
        let invalid = |reason: String| ConnectError::InvalidUrl {
            url: without_credentials(base_url),
            reason,
        };
        let mut base = Url::parse(base_url).map_err(|error| invalid(error.to_string()))?;
        let secure = match base.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(invalid("it does not begin with http:// or https://".to_owned())),
        };
        let mut shown = base.clone();
        // All of these fail only for a URL without a host, and http has one.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        if let Some((user, password)) = &access.credentials {
            if !base.username().is_empty() || base.password().is_some() {
                return Err(invalid(
                    "it has a user or password, and so has --connect-user or --connect-password".to_owned(),
                ));
            }
            let _ = base.set_username(user);
            let _ = base.set_password(Some(password.expose_secret()));
        }
        if !secure && (access.authorities.is_some() || access.identity.is_some()) {
            return Err(invalid(
                "--ca-file and --client-cert are for addresses that begin with https://".to_owned(),
            ));
        }
        Ok(Self {
            http: client(access)?,
            base,
            shown: shown.into(),
            request_timeout: access.request_timeout,
        })
    }
}

fn client(access: &Access) -> Result<reqwest::Client, ConnectError> {
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(access.request_timeout))
        .timeout(access.request_timeout)
        // Connect never redirects; whoever does is somebody else.
        .redirect(redirect::Policy::none());
    let unfit = |option| move |source| ConnectError::UnfitPem { option, source };
    if let Some(pem) = &access.authorities {
        let authorities = Certificate::from_pem_bundle(pem).map_err(unfit("--ca-file"))?;
        if authorities.is_empty() {
            return Err(ConnectError::EmptyPem { option: "--ca-file" });
        }
        client = client.tls_certs_only(authorities);
    }
    if let Some(pem) = &access.identity {
        let identity = Identity::from_pem(pem.expose_secret().as_bytes());
        client = client.identity(identity.map_err(unfit("--client-cert"))?);
    }
    // What is left to fail are the certificates.
    client.build().map_err(unfit("--client-cert or --ca-file"))
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Way").field(&self.shown).finish()
    }
}

fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        (None, Some(at)) => url[at + 1..].to_owned(),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(url: &str, access: &Access) -> Result<Way, ConnectError> {
        Way::new(url, access)
    }

    #[test]
    fn credentials_are_never_shown() {
        let api = way("http://operator:s3cret@connect:8083/", &Access::default()).unwrap();
        assert_eq!(api.shown, "http://connect:8083/");
        assert!(!format!("{api:?}").contains("s3cret"));
        for wrong in [
            "ftp://operator:s3cret@connect",
            "http://operator:s3cret@",
            "operator:s3cret@connect:8083",
        ] {
            let error = way(wrong, &Access::default()).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
            assert!(error.contains("http://127.0.0.1:8083"), "{error}");
        }
    }

    #[test]
    fn credentials_stand_in_one_place() {
        let access = Access {
            credentials: Some(("operator".to_owned(), "s3cr/t@".into())),
            ..Access::default()
        };
        let api = way("http://connect:8083", &access).unwrap();
        assert_eq!(api.base.as_str(), "http://operator:s3cr%2Ft%40@connect:8083/");
        assert_eq!(api.shown, "http://connect:8083/");
        let error = way("http://someone@connect:8083", &access)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--connect-user") && !error.contains("s3cr"),
            "{error}"
        );
    }

    #[test]
    fn certificates_are_for_https_and_have_to_be_some() {
        let access = |pem: &str| Access {
            authorities: Some(pem.as_bytes().to_vec()),
            ..Access::default()
        };
        let refused = |url: &str, access: &Access| way(url, access).unwrap_err().to_string();
        assert!(refused("http://connect", &access("")).contains("https://"));
        assert!(refused("https://connect", &access("no pem")).contains("--ca-file"));
        let access = Access {
            identity: Some("no pem".into()),
            ..Access::default()
        };
        assert!(refused("https://connect", &access).contains("--client-cert"));
    }
}
