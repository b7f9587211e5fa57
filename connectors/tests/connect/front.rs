//! A server in front of the real Kafka Connect: it can ask for a client certificate and for a password, and
//! shows only some of the connectors, so that a test may do something to all of them. It notes what
//! is asked for.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{net::TcpListener, sync::OwnedMutexGuard};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
    },
};

/// `operator:s3cret`
const AUTHORIZATION: &str = "Basic b3BlcmF0b3I6czNjcmV0";

const RESTART: &str = "/restart";

/// A request that changes something, or asks for it.
type Seen = (Instant, Method, String);

pub struct Front {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    silent: Arc<AtomicBool>,
    restarting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone)]
struct Behind {
    connect: String,
    /// Connectors whose name begins otherwise are not shown.
    prefix: String,
    password: bool,
    seen: Arc<Mutex<Vec<Seen>>>,
    silent: Arc<AtomicBool>,
    restarting: Arc<tokio::sync::Mutex<()>>,
}

/// What a client needs in PEM: the authority's certificate, and one of its own with its key.
pub struct Certificates {
    pub authority: String,
    pub client: String,
    pub client_key: String,
}

impl Front {
    pub async fn of(connect: &str, prefix: &str) -> Self {
        Self::start(connect, prefix, false, None).await
    }

    /// Asks for a certificate of the authority that is returned, and for the password.
    pub async fn secured(connect: &str) -> (Self, Certificates) {
        let (tls, certificates) = certificates();
        (Self::start(connect, "", true, Some(tls)).await, certificates)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on no request is answered, nor refused.
    pub fn fall_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Restarts that are asked for while this is kept wait for its end; one that is under way is waited for.
    pub async fn hold_restarts(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.restarting).lock_owned().await
    }

    /// When restarts were asked for.
    pub fn restarts(&self) -> Vec<Instant> {
        let seen = self.seen.lock().unwrap();
        let restarts = seen.iter().filter(|(_, _, path)| path.ends_with(RESTART));
        restarts.map(|(at, ..)| *at).collect()
    }

    /// What was put, and to be validated, since it was last asked.
    pub fn take_puts(&self) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap();
        let puts = seen.drain(..).filter(|(_, method, _)| method == Method::PUT);
        puts.map(|(_, _, path)| path).collect()
    }

    async fn start(connect: &str, prefix: &str, password: bool, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let silent = Arc::<AtomicBool>::default();
        let restarting = Arc::default();
        let behind = Behind {
            connect: connect.to_owned(),
            prefix: prefix.to_owned(),
            password,
            seen: Arc::clone(&seen),
            silent: Arc::clone(&silent),
            restarting: Arc::clone(&restarting),
        };
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let (behind, tls) = (behind.clone(), tls.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(behind.clone(), request));
                    // A client that is not trusted goes away, and so may any other.
                    let _ = match tls {
                        None => {
                            http1::Builder::new()
                                .serve_connection(TokioIo::new(connection), service)
                                .await
                        }
                        Some(tls) => match tls.accept(connection).await {
                            Ok(secure) => {
                                http1::Builder::new()
                                    .serve_connection(TokioIo::new(secure), service)
                                    .await
                            }
                            Err(_) => return,
                        },
                    };
                });
            }
        });
        Self {
            address,
            seen,
            silent,
            restarting,
        }
    }
}

async fn answer(behind: Behind, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if behind.silent.load(Ordering::Relaxed) {
        return std::future::pending().await;
    }
    let authorized = request.headers().get(header::AUTHORIZATION);
    if behind.password && authorized.is_none_or(|sent| sent != AUTHORIZATION) {
        let refused = Response::builder().status(StatusCode::UNAUTHORIZED);
        return Ok(refused
            .body(Full::from("User cannot access the resource."))
            .unwrap());
    }
    if request.method() != Method::GET {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        behind.seen.lock().unwrap().push((Instant::now(), method, path));
    }
    let _one_at_a_time = if request.uri().path().ends_with(RESTART) {
        Some(behind.restarting.lock().await)
    } else {
        None
    };
    let list = request.method() == Method::GET && request.uri().path() == "/connectors";
    let url = format!("{}{}", behind.connect, request.uri());
    let mut forwarded = reqwest::Client::new().request(request.method().clone(), url);
    if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
        forwarded = forwarded.header(header::CONTENT_TYPE, kind);
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let answered = forwarded.body(body).send().await.unwrap();
    let (status, kind) = (
        answered.status(),
        answered.headers().get(header::CONTENT_TYPE).cloned(),
    );
    let mut body = answered.bytes().await.unwrap();
    if list && status.is_success() {
        let mut all: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&body).unwrap();
        all.retain(|name, _| name.starts_with(&behind.prefix));
        body = serde_json::to_vec(&all).unwrap().into();
    }
    let mut response = Response::builder().status(status);
    if let Some(kind) = kind {
        response = response.header(header::CONTENT_TYPE, kind);
    }
    Ok(response.body(Full::from(body)).unwrap())
}

fn certificates() -> (TlsAcceptor, Certificates) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (server, server_key) = issue("localhost");
    let (client, client_key) = issue("operator");

    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![server.der().clone()];
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .unwrap();
    let certificates = Certificates {
        authority: root.pem(),
        client: client.pem(),
        client_key: client_key.serialize_pem(),
    };
    (TlsAcceptor::from(Arc::new(config)), certificates)
}
