//! A member's app that keeps its event stream open: it comes back whenever the stream ends, and remembers
//! every event it was given.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use local_stack::client::{Client, Event, EventStream, Notification};
use tokio::{task::JoinHandle, time::sleep};

/// Sooner than the server asks for, so that tests take less time.
const COMES_BACK_AFTER: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Reader {
    seen: Arc<Mutex<Vec<Event>>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Reads everything that `member` was ever told, and goes on.
    ///
    /// # Panics
    /// If the stream cannot be opened.
    pub async fn start(member: &Client) -> Self {
        Self::start_at([member.clone()]).await
    }

    /// The same with several instances of chat-service: when the stream ends, it comes back at the next one.
    ///
    /// # Panics
    /// If the stream cannot be opened at the first.
    pub async fn start_at(instances: impl IntoIterator<Item = Client>) -> Self {
        let instances: Vec<Client> = instances.into_iter().collect();
        let mut stream = instances[0].events(Some(0)).await.expect("an event stream");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let remember = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut next = instances.iter().cycle().skip(1);
            loop {
                match stream.next().await {
                    Ok(Some(event)) => remember
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(event),
                    Ok(None) | Err(_) => come_back(&mut stream, &mut next).await,
                }
            }
        });
        Self { seen, task }
    }

    /// What it was given, in order.
    ///
    /// # Panics
    /// If an event is not the member's next one, or no notification.
    pub fn seen(&self) -> Vec<Notification> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (1..)
            .zip(seen.iter())
            .map(|(next, event)| {
                let notification: Notification = event.json().expect("the data of an event");
                assert_eq!(
                    (event.id, notification.seq),
                    (next, next),
                    "each event once, in order: {event:?}"
                );
                assert_eq!(event.name, notification.kind, "{event:?}");
                notification
            })
            .collect()
    }

    /// Ids of the rooms that it was told are closed, in order.
    ///
    /// # Panics
    /// As [`Reader::seen`].
    pub fn closed_rooms(&self) -> Vec<String> {
        let seen = self.seen().into_iter();
        seen.filter(|notification| notification.kind == "room_closed")
            .map(|notification| notification.room_id)
            .collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn come_back(stream: &mut EventStream, next: &mut impl Iterator<Item = &Client>) {
    for instance in next {
        match instance.events(stream.last_id()).await {
            Ok(open) => {
                *stream = open;
                return;
            }
            Err(_) => sleep(COMES_BACK_AFTER).await,
        }
    }
}
