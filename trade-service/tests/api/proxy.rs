//! A TCP proxy in front of PostgreSQL that can be cut, or made to swallow everything.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) struct Proxy {
    address: SocketAddr,
    target: SocketAddr,
    accepting: Option<JoinHandle<()>>,
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
        };
        let through = url.replace(host, &address.to_string());
        proxy.accept(listener, true);
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
        let listener = self.bind_again();
        self.accept(listener, true);
    }

    /// New connections are accepted and never answered.
    pub(crate) async fn swallow(&mut self) {
        self.cut().await;
        let listener = self.bind_again();
        self.accept(listener, false);
    }

    fn bind_again(&self) -> TcpListener {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        socket.listen(64).unwrap()
    }

    fn accept(&mut self, listener: TcpListener, forward: bool) {
        let target = self.target;
        self.accepting = Some(tokio::spawn(async move {
            // Dropped, and with them their connections, when this task is aborted.
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    if forward {
                        if let Ok(mut server) = TcpStream::connect(target).await {
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                        }
                    } else {
                        std::future::pending::<()>().await;
                    }
                });
            }
        }));
    }
}
