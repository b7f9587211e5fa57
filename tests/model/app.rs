//! A member's app: its event stream is connected and lost, and goes on where it was.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use local_stack::client::{Client, Event};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// Sooner than the server asks for, so that a round takes less time.
const COMES_BACK_AFTER: Duration = Duration::from_millis(30);

#[derive(Debug)]
pub struct App {
    /// Where to be connected.
    to: watch::Sender<Option<Client>>,
    read: Arc<Mutex<Vec<Event>>>,
    task: JoinHandle<()>,
}

impl App {
    /// One that is not connected.
    pub fn new() -> Self {
        let (to, connected) = watch::channel(None);
        let read = Arc::default();
        let task = tokio::spawn(follow(connected, Arc::clone(&read)));
        Self { to, read, task }
    }

    /// Connects the stream there, or ends it.
    pub fn connect(&self, to: Option<Client>) {
        self.to.send_replace(to);
    }

    /// Every event that it was given.
    pub fn read(&self) -> Vec<Event> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(mut connected: watch::Receiver<Option<Client>>, read: Arc<Mutex<Vec<Event>>>) {
    loop {
        let to = connected.borrow_and_update().clone();
        let followed = async {
            match to {
                Some(member) => follow_at(&member, &read).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = followed => sleep(COMES_BACK_AFTER).await,
            changed = connected.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Until the stream ends.
async fn follow_at(member: &Client, read: &Mutex<Vec<Event>>) {
    let last = || {
        let read = read.lock().unwrap_or_else(PoisonError::into_inner);
        read.last().map_or(0, |event| event.id)
    };
    let Ok(mut stream) = member.events(Some(last())).await else {
        return;
    };
    while let Ok(Some(event)) = stream.next().await {
        read.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}
