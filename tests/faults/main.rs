//! Real faults on the real servers: each test runs the same 2,000 deletes with all members connected, does
//! something bad in the middle of them, and asks for the same outcome.
//!
//! Invariant: one test at a time. They share the servers, and a server that is down is down for all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "figures for whoever runs the tests with --nocapture"
)]

use std::time::Duration;

use local_stack::{server::Server, testing};
use tokio::sync::{Mutex, MutexGuard};

mod deletes;
mod erasure;
mod instances;
mod market;
mod scene;
mod servers;
mod shutdown;
mod watch;

/// For what takes seconds: a server that starts again, a member of the group whose session runs out, a lease
/// of the eraser's that runs out.
const BOUND: Duration = Duration::from_mins(2);

/// Held by the test whose turn it is.
async fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    ONE_AT_A_TIME.lock().await
}

/// The built-in MongoDB; none if the tests use one that is not ours to kill.
async fn mongodb() -> Option<&'static Server> {
    let server = testing::stack().await.mongo.server.as_ref();
    if server.is_none() {
        println!("not run: the MongoDB that MONGODB_URI names cannot be killed from here");
    }
    server
}
