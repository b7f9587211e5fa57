//! A TCP proxy between a service and one of its servers: cuts and slows the connection, and stops a
//! MongoDB command at a chosen point, on either side of its effect.
//!
//! Invariant: bytes pass unchanged and in order until the connection is closed. A command that was stopped
//! is never answered, so to the service it is one whose connection was lost.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, sink},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::wire::{Frame, HEADER, Transaction};

/// More than a service opens.
const CONNECTIONS: u32 = 1_000;

/// Where a MongoDB command is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Only commands of this name count; without one, all that read or write documents do.
    pub command: Option<&'static str>,
    /// Counted from 1.
    pub nth: u32,
    pub side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server never sees the command.
    Before,
    /// The server has carried it out, and the answer is lost.
    After,
}

/// A command that is held. Its connection is closed when this is dropped.
#[derive(Debug)]
pub struct Stopped {
    /// Such as `commitTransaction`.
    pub command: &'static str,
    _held: oneshot::Sender<()>,
}

/// Listens as long as it lives.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Control {
    server: String,
    /// Cancelled while the connection is cut.
    link: Mutex<CancellationToken>,
    delay_ms: AtomicU64,
    points: Mutex<Vec<Armed>>,
    /// Of each session the transaction that it has not ended yet.
    open: Mutex<HashMap<Vec<u8>, Transaction>>,
    /// A permit for each connection that there is.
    connections: Semaphore,
}

#[derive(Debug)]
struct Armed {
    point: Point,
    left: u32,
    reached: oneshot::Sender<Stopped>,
}

/// What a connection's two directions share: the request whose answer is not to pass.
type Swallow = Arc<Mutex<Option<(i32, &'static str, Armed)>>>;

impl Proxy {
    /// A way to `server`, which is `host:port`.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(server: impl Into<String>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let control = Arc::new(Control {
            server: server.into(),
            link: Mutex::default(),
            delay_ms: AtomicU64::new(0),
            points: Mutex::default(),
            open: Mutex::default(),
            connections: Semaphore::new(CONNECTIONS as usize),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&control)));
        Ok(Self {
            address,
            control,
            accepting,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections, and new ones as soon as they are made.
    pub fn cut(&self) {
        lock(&self.control.link).cancel();
    }

    /// Lets new connections pass, at full speed.
    pub fn restore(&self) {
        let mut link = lock(&self.control.link);
        if link.is_cancelled() {
            *link = CancellationToken::new();
        }
        self.slow_down(Duration::ZERO);
    }

    /// Delays each piece that the service sends from now on.
    pub fn slow_down(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.control.delay_ms.store(delay, Ordering::Relaxed);
    }

    /// Stops a command of a MongoDB connection at `point`, counted from now. The receiver fails when
    /// the point was given up by [`Proxy::forget_points`].
    pub fn stop_at(&self, point: Point) -> oneshot::Receiver<Stopped> {
        let (reached, stopped) = oneshot::channel();
        lock(&self.control.points).push(Armed {
            point,
            left: point.nth,
            reached,
        });
        stopped
    }

    /// Gives up all points that were not reached.
    pub fn forget_points(&self) {
        lock(&self.control.points).clear();
    }

    /// Aborts what a killed process has left open. MongoDB does so after a minute, and until then everybody
    /// else would wait for it.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn abort_transactions(&self) -> io::Result<()> {
        // At once: what the process has sent beside may wait for them, and its connections end behind it.
        let open = lock(&self.control.open).values().cloned().collect();
        self.abort(open).await?;
        // What it has sent last is on its way as long as there are connections.
        let _none = self.control.connections.acquire_many(CONNECTIONS).await;
        let open: Vec<Transaction> = lock(&self.control.open).drain().map(|(_, open)| open).collect();
        self.abort(open.clone()).await?;
        // Twice: the last may begin on the server only now.
        self.abort(open).await
    }

    /// Each on a connection of its own: one may have to wait for another.
    async fn abort(&self, open: Vec<Transaction>) -> io::Result<()> {
        let aborted = open.into_iter().map(async |transaction| {
            let mut server = TcpStream::connect(&self.control.server).await?;
            server.write_all(&transaction.abort()).await?;
            let mut header = [0; HEADER];
            server.read_exact(&mut header).await?;
            // Whether it was still open makes no difference.
            Frame::read(header, &mut server).await.map(drop)
        });
        try_join_all(aborted).await.map(drop)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Control {
    /// The point that this command reaches, if it reaches one.
    fn reaches(&self, command: &str) -> Option<Armed> {
        let mut points = lock(&self.points);
        let counts = |armed: &Armed| armed.point.command.is_none_or(|name| name == command);
        for armed in points.iter_mut().filter(|armed| counts(armed)) {
            armed.left = armed.left.saturating_sub(1);
        }
        let reached = points.iter().position(|armed| armed.left == 0 && counts(armed))?;
        Some(points.swap_remove(reached))
    }

    /// Remembers which transactions are open.
    fn follow(&self, frame: &Frame) {
        if let Some(transaction) = frame.transaction() {
            let session = transaction.session.as_bytes().to_vec();
            let ended = matches!(frame.command(), Some("commitTransaction" | "abortTransaction"));
            if ended {
                lock(&self.open).remove(&session);
            } else {
                lock(&self.open).insert(session, transaction);
            }
        }
    }

    async fn wait(&self) {
        let delay = self.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            sleep(Duration::from_millis(delay)).await;
        }
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    loop {
        let Ok((service, _)) = listener.accept().await else {
            continue;
        };
        let link = lock(&control.link).clone();
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            let _connection = control.connections.acquire().await;
            // However it ends, both sides are closed; there is nobody to tell.
            link.run_until_cancelled(relay(service, &control)).await;
        });
    }
}

async fn relay(service: TcpStream, control: &Control) -> io::Result<()> {
    let server = TcpStream::connect(&control.server).await?;
    service.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_service, to_service) = service.into_split();
    let (from_server, to_server) = server.into_split();
    let swallow = Swallow::default();
    tokio::select! {
        sent = requests(from_service, to_server, control, &swallow) => sent,
        answered = answers(from_server, to_service, &swallow) => answered,
    }
}

/// Until the service has closed the connection or a command was stopped.
async fn requests(
    mut service: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    control: &Control,
    swallow: &Swallow,
) -> io::Result<()> {
    let mut header = [0; HEADER];
    loop {
        service.read_exact(&mut header).await?;
        control.wait().await;
        let Some(frame) = Frame::read(header, &mut service).await? else {
            // Not MongoDB: the rest passes as it comes.
            server.write_all(&header).await?;
            return pass(service, server, control).await;
        };
        if let Some(command) = frame.command()
            && let Some(armed) = control.reaches(command)
        {
            match armed.point.side {
                Side::Before => {
                    tokio::select! {
                        () = hold(command, armed) => return Ok(()),
                        gone = pass(service, sink(), control) => return gone,
                    }
                }
                Side::After => *lock(swallow) = Some((frame.request_id(), command, armed)),
            }
        }
        control.follow(&frame);
        server.write_all(frame.bytes()).await?;
    }
}

async fn answers(
    mut server: OwnedReadHalf,
    mut service: OwnedWriteHalf,
    swallow: &Swallow,
) -> io::Result<()> {
    let mut header = [0; HEADER];
    loop {
        server.read_exact(&mut header).await?;
        let Some(frame) = Frame::read(header, &mut server).await? else {
            service.write_all(&header).await?;
            return tokio::io::copy(&mut server, &mut service).await.map(drop);
        };
        let swallowed = {
            let mut swallow = lock(swallow);
            swallow.take_if(|(request, ..)| *request == frame.response_to())
        };
        if let Some((_, command, armed)) = swallowed {
            hold(command, armed).await;
            return Ok(());
        }
        service.write_all(frame.bytes()).await?;
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: impl AsyncWrite + Unpin, control: &Control) -> io::Result<()> {
    let mut piece = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        control.wait().await;
        to.write_all(&piece[..read]).await?;
    }
}

/// Tells that the point is reached, and waits until whoever was told lets go.
async fn hold(command: &'static str, armed: Armed) {
    let (held, released) = oneshot::channel();
    let stopped = Stopped { command, _held: held };
    // Given up meanwhile: then the connection is closed at once.
    if armed.reached.send(stopped).is_ok() {
        let _ = released.await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
