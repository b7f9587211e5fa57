//! Messages on their way to MongoDB: those that arrive while a transaction is under way go together in
//! the next one. Sends to one room or one member would otherwise only meet as write conflicts.
//!
//! Invariant: a message is answered after its transaction, never before.

use mongodb::error::{Error, Result};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::store::{
    Store,
    messages::{Outgoing, Sent},
    now,
};

/// Most messages of one transaction: enough to share its cost, few enough to be quick.
const BATCH: usize = 64;
/// Messages that wait beyond that keep their requests waiting.
const QUEUE: usize = 1024;

/// Where requests leave their messages.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    outgoing: Outgoing,
    answer: oneshot::Sender<Result<Sent>>,
}

/// Sends what is left in the outbox.
#[derive(Debug)]
pub struct Postman {
    store: Store,
    queue: mpsc::Receiver<Waiting>,
}

/// An outbox, and who empties it.
pub fn outbox(store: Store) -> (Outbox, Postman) {
    let (sender, queue) = mpsc::channel(QUEUE);
    (Outbox { queue: sender }, Postman { store, queue })
}

impl Outbox {
    /// Sends a message once.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Sent> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::custom("the service is shutting down");
        self.queue
            .send(Waiting { outgoing, answer })
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Postman {
    /// Sends until `ended`, which is to come after the last request.
    pub async fn run(mut self, ended: CancellationToken) -> Result<()> {
        let mut waiting = Vec::with_capacity(BATCH);
        while let Some(taken) = ended
            .run_until_cancelled(self.queue.recv_many(&mut waiting, BATCH))
            .await
            && taken > 0
        {
            // Whoever has gone meanwhile may ask again under the same id.
            let (outgoing, answers): (Vec<Outgoing>, Vec<_>) = waiting
                .drain(..)
                .filter(|waiting| !waiting.answer.is_closed())
                .map(|waiting| (waiting.outgoing, waiting.answer))
                .unzip();
            let sent = self.store.send(&outgoing, now()).await;
            let outcomes: Vec<Result<Sent>> = match sent {
                Ok(sent) => sent.into_iter().map(Ok).collect(),
                Err(error) => answers.iter().map(|_| Err(error.clone())).collect(),
            };
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Not there any more: nobody to tell.
                let _ = answer.send(outcome);
            }
        }
        Ok(())
    }
}
