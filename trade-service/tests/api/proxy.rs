//! A TCP proxy in front of PostgreSQL that can be cut, reset or slowed, and that can swallow everything.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

pub(crate) struct Proxy {
    address: SocketAddr,
    target: SocketAddr,
    accepting: Option<JoinHandle<()>>,
    control: Arc<Control>,
}

#[derive(Default)]
struct Control {
    delay_ms: AtomicU64,
    /// That of new connections. Once it is set, nothing passes them any more.
    dead: Mutex<Arc<AtomicBool>>,
    resets: AtomicBool,
}

impl Proxy {
    /// In front of the host of that URL; answers the URL that leads through the proxy as well.
    pub(crate) async fn in_front_of(url: &str) -> (Self, String) {
        let host = url
            .split(['@', '/'])
            .find(|part| part.starts_with("127.0.0.1:"))
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy = Self {
            address,
            target: host.parse().unwrap(),
            accepting: None,
            control: Arc::default(),
        };
        let through = url.replace(host, &address.to_string());
        proxy.accept(listener);
        (proxy, through)
    }

    /// Every connection breaks, new ones are refused.
    pub(crate) async fn cut(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
    }

    pub(crate) async fn restore(&mut self) {
        self.cut().await;
        *self.control.dead.lock().unwrap() = Arc::default();
        let listener = self.bind_again();
        self.accept(listener);
    }

    /// New connections are accepted and never answered.
    pub(crate) async fn swallow(&mut self) {
        self.restore().await;
        self.freeze();
    }

    /// Nothing passes any more, on connections that there are and on new ones, and nobody is told.
    pub(crate) fn freeze(&self) {
        self.control.dead.lock().unwrap().store(true, Ordering::Relaxed);
    }

    /// New connections are good again. Those that were frozen stay so.
    pub(crate) fn thaw(&self) {
        *self.control.dead.lock().unwrap() = Arc::default();
    }

    /// How long each piece of data is on its way, from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap();
        self.control.delay_ms.store(delay, Ordering::Relaxed);
    }

    /// Every connection that there is ends with a reset; new ones are good.
    pub(crate) async fn reset(&mut self) {
        self.control.resets.store(true, Ordering::Relaxed);
        self.restore().await;
        self.control.resets.store(false, Ordering::Relaxed);
    }

    fn bind_again(&self) -> TcpListener {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        socket.listen(64).unwrap()
    }

    fn accept(&mut self, listener: TcpListener) {
        let (target, control) = (self.target, Arc::clone(&self.control));
        self.accepting = Some(tokio::spawn(async move {
            // Dropped, and with them their connections, when this task is aborted.
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let control = Arc::clone(&control);
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        forward(client, server, &control).await;
                    }
                });
            }
        }));
    }
}

/// Closes the connection with a reset if it is dropped while the proxy resets.
struct End<'a>(TcpStream, &'a Control);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if self.1.resets.load(Ordering::Relaxed) {
            self.0.set_zero_linger().unwrap();
        }
    }
}

async fn forward(client: TcpStream, server: TcpStream, control: &Control) {
    let dead = Arc::clone(&control.dead.lock().unwrap());
    let (mut client, mut server) = (End(client, control), End(server, control));
    let (from_client, to_client) = client.0.split();
    let (from_server, to_server) = server.0.split();
    tokio::select! {
        () = pass(from_client, to_server, control, &dead) => {}
        () = pass(from_server, to_client, control, &dead) => {}
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    control: &Control,
    dead: &AtomicBool,
) {
    let mut piece = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        sleep(Duration::from_millis(control.delay_ms.load(Ordering::Relaxed))).await;
        if dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if to.write_all(&piece[..read]).await.is_err() {
            break;
        }
    }
}
