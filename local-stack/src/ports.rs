//! Free ports of the loopback address. They lie below the range from which systems take the ports of
//! outgoing connections: otherwise, while a server is down, a client that keeps trying to connect to it
//! could be given that very port, connect to itself, and keep the server from coming back.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::time::sleep;

const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;
/// How far apart two processes start to look, so that both do not take the same port at once.
const STRIDE: u32 = 32;

const COMES_FREE: Duration = Duration::from_secs(1);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on, different at every call of this process.
pub(crate) fn free() -> Result<u16> {
    let start = std::process::id().wrapping_mul(STRIDE);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset)?;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!(
        "no port between {FIRST} and {} is free; end some of the processes that listen there",
        FIRST + COUNT
    )
}

/// Whether nobody listens on the port, now or very soon: a process that another thread is just starting has
/// what this one has open until its program begins, also the socket that looked whether the port is free.
pub(crate) async fn comes_free(port: u16) -> bool {
    let deadline = Instant::now() + COMES_FREE;
    while !is_free(port) {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
    true
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_not_given_out() {
        let first = free().unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert!(!is_free(first));
        assert_ne!(free().unwrap(), first);
    }

    #[tokio::test]
    async fn a_port_that_is_given_up_is_waited_for() {
        let port = free().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!comes_free(port).await);
        let given_up = async {
            sleep(Duration::from_millis(50)).await;
            drop(listener);
        };
        assert!(tokio::join!(comes_free(port), given_up).0);
    }
}
