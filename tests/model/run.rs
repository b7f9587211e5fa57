//! Carries a round out: changes of the table, members' requests and faults go on beside each other, each in
//! its own order, and everything that is answered is written down.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use local_stack::client::{Client, ClientError};
use mongodb::bson::doc;
use reqwest::StatusCode;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::sleep,
};

use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    arena::Arena,
    history::{History, Opened, Opening, Read, Reading, Sending, Sent, body},
    operation::{IDS, Instance, MEMBERS, Operation, Request, Step},
    table::{Known, row_of},
};

/// A request that is lost is repeated for so long; no fault takes as long.
const ANSWER_BOUND: Duration = Duration::from_secs(40);
/// And twice that the next time, up to the limit.
const AGAIN_AFTER: Duration = Duration::from_millis(40);
const AGAIN_AFTER_LIMIT: Duration = Duration::from_millis(500);
/// A member who picks a room picks one of the newest.
const NEWEST: usize = 5;

/// What a round came to.
#[derive(Debug)]
pub struct Outcome {
    pub timeline: Vec<(Duration, String)>,
    pub wrong: Vec<String>,
    /// It came to no end, and where it took place cannot be used again.
    pub is_stuck: bool,
    pub rooms: usize,
    pub messages: usize,
}

pub struct Round<'a> {
    pub arena: &'a Arena<'a>,
    /// Its posts have ids, and its members too, from here on.
    pub base: i64,
    pub history: Mutex<History>,
    pub apps: Vec<App>,
    /// Each member's, at the first and at the second process.
    clients: Vec<[Client; 2]>,
    sent: AtomicU32,
    /// Cancelled when nothing happens any more that a fault could meet.
    pub over: CancellationToken,
    start: Instant,
    timeline: Mutex<Vec<(Duration, String)>>,
}

impl<'a> Round<'a> {
    pub fn new(arena: &'a Arena<'a>, base: i64) -> Self {
        let at = |member: i64, process: usize| {
            let [url, admin] = arena.processes[process].urls();
            arena.world.member(member).at_chat(url, admin)
        };
        Self {
            arena,
            base,
            history: Mutex::default(),
            apps: (0..MEMBERS).map(|_| App::new()).collect(),
            clients: (base..)
                .take(MEMBERS)
                .map(|member| [at(member, 0), at(member, 1)])
                .collect(),
            sent: AtomicU32::new(0),
            over: CancellationToken::new(),
            start: Instant::now(),
            timeline: Mutex::default(),
        }
    }

    pub fn ids(&self) -> Vec<i64> {
        (0..IDS).map(|id| self.id(id)).collect()
    }

    pub fn members(&self) -> Vec<i64> {
        (0..MEMBERS).map(|member| self.id(member)).collect()
    }

    pub fn id(&self, number: usize) -> i64 {
        self.base + i64::try_from(number).expect("a small number")
    }

    /// The member's app, at that process if it is there.
    pub fn client(&self, member: usize, instance: Instance) -> &Client {
        let second = instance == Instance::Second && self.arena.process(instance).is_wanted();
        &self.clients[member][usize::from(second)]
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, what: String) {
        let timeline = self.timeline.lock();
        timeline
            .unwrap_or_else(PoisonError::into_inner)
            .push((self.start.elapsed(), what));
    }

    /// What it came to up to now.
    pub fn outcome(&self) -> Outcome {
        let timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let history = self.history();
        Outcome {
            timeline: timeline.clone(),
            wrong: Vec::new(),
            is_stuck: false,
            rooms: history.rooms().len(),
            messages: history.sendings.len(),
        }
    }

    pub fn wrong(&self, what: String) {
        self.note(format!("WRONG {what}"));
        self.history().wrong.push(what);
    }

    /// Carries the steps out, until each has been answered and each fault is over.
    pub async fn carry_out(&self, steps: &[Step]) {
        let (table, changes) = unbounded_channel();
        let (faults, injected) = unbounded_channel();
        let (members, requests): (Vec<_>, Vec<_>) = (0..MEMBERS).map(|_| unbounded_channel()).unzip();
        let more_faults = faults.clone();
        let begun = async move {
            for step in steps {
                sleep(step.pause).await;
                self.note(format!("{}: {:?}", step.number, step.operation));
                // Who works on them lives as long as this.
                let _ = match &step.operation {
                    Operation::Table { changes, by_seller } => {
                        table.send((changes.clone(), *by_seller)).is_ok()
                    }
                    Operation::Chat { member, .. } => members[*member].send(step.operation.clone()).is_ok(),
                    Operation::Stream { member, connected } => {
                        let to = connected.map(|instance| self.client(*member, instance).clone());
                        self.apps[*member].connect(to);
                        true
                    }
                    Operation::Fault(fault) => more_faults.send(*fault).is_ok(),
                };
            }
        };
        let done = async {
            tokio::join!(
                begun,
                self.change_table(changes),
                join_all(requests.into_iter().map(|requests| self.chat(requests)))
            );
            self.over.cancel();
            drop(faults);
        };
        tokio::join!(done, self.inject(injected));
    }

    /// A member does one thing after the other.
    async fn chat(&self, mut requests: UnboundedReceiver<Operation>) {
        while let Some(operation) = requests.recv().await {
            let Operation::Chat {
                member,
                mut instance,
                request,
                patient,
            } = operation
            else {
                continue;
            };
            let begun = Instant::now();
            let chosen = self.choose(member, request);
            let mut pause = AGAIN_AFTER;
            loop {
                let answered = match &chosen {
                    Chosen::Nothing => true,
                    Chosen::Open { id } => self.open(member, instance, *id).await,
                    Chosen::Send { room, message, twice } => {
                        let send = || self.send(member, instance, room, message);
                        if *twice {
                            let (one, other) = tokio::join!(send(), send());
                            one || other
                        } else {
                            send().await
                        }
                    }
                    Chosen::Read { room } => self.read(member, instance, room).await,
                };
                if answered || !patient {
                    break;
                }
                if begun.elapsed() > ANSWER_BOUND {
                    self.wrong(format!("no answer to {request:?} of member {member}"));
                    break;
                }
                // A load balancer would ask another instance.
                instance = instance.other();
                sleep(pause).await;
                pause = (2 * pause).min(AGAIN_AFTER_LIMIT);
            }
        }
    }

    fn choose(&self, member: usize, request: Request) -> Chosen {
        let pick = |number: usize| {
            let history = self.history();
            let mut rooms: Vec<String> = Vec::new();
            for opening in &history.openings {
                if let Opened::Room { room, seller, .. } = &opening.answer
                    && [*seller, opening.buyer].contains(&self.id(member))
                    && !rooms.contains(room)
                {
                    rooms.push(room.clone());
                }
            }
            let newest = rooms.len().min(NEWEST);
            (newest > 0).then(|| rooms.swap_remove(rooms.len() - 1 - number % newest))
        };
        match request {
            Request::OpenRoom { id } => Chosen::Open { id: self.id(id) },
            Request::Send { room, twice } => pick(room).map_or(Chosen::Nothing, |room| {
                let number = self.sent.fetch_add(1, Ordering::Relaxed);
                Chosen::Send {
                    room,
                    message: format!("{member}-{number}"),
                    twice,
                }
            }),
            Request::Read { room } => pick(room).map_or(Chosen::Nothing, |room| Chosen::Read { room }),
        }
    }

    /// What chat-service knows of the id now.
    async fn known(&self, id: i64) -> Option<Known> {
        let posts = &self.arena.world.store.posts;
        let post = posts
            .find_one(doc! { "_id": id })
            .await
            .expect("MongoDB answers")?;
        Some(Known {
            row: row_of(post.title.as_deref()?)?,
            live: post.state == chat_service::store::posts::PostState::Live,
        })
    }

    async fn open(&self, member: usize, instance: Instance, id: i64) -> bool {
        let before = self.known(id).await;
        let answer = match self.client(member, instance).open_room_once(id).await {
            Ok(room) => Opened::Room {
                room: room.id,
                seller: room.seller_id,
                after: room.trade_post.title.as_deref().and_then(row_of),
            },
            Err(refused) => match refused.status() {
                Some(StatusCode::GONE) => Opened::Gone,
                Some(StatusCode::NOT_FOUND) => Opened::Unknown,
                Some(StatusCode::CONFLICT) => Opened::Own,
                _ => {
                    self.lost(&refused);
                    Opened::Lost
                }
            },
        };
        self.note(format!(
            "member {member} opens a room about {id}, known as {before:?}: {answer:?}"
        ));
        let answered = answer != Opened::Lost;
        let opening = Opening {
            buyer: self.id(member),
            id,
            before,
            answered: Instant::now(),
            answer,
        };
        self.history().openings.push(opening);
        answered
    }

    async fn send(&self, member: usize, instance: Instance, room: &str, message: &str) -> bool {
        let began = Instant::now();
        let answer = self
            .client(member, instance)
            .send(room, message, &body(message))
            .await;
        let answer = match answer {
            Ok(message) => Sent::Message(message.seq),
            Err(refused) if refused.status() == Some(StatusCode::GONE) => Sent::Gone,
            Err(refused) => {
                self.lost(&refused);
                Sent::Lost
            }
        };
        self.note(format!("member {member} sends {message} to {room}: {answer:?}"));
        let sending = Sending {
            room: room.to_owned(),
            sender: self.id(member),
            client_message_id: message.to_owned(),
            began,
            answered: Instant::now(),
            answer,
        };
        self.history().sendings.push(sending);
        answer != Sent::Lost
    }

    async fn read(&self, member: usize, instance: Instance, room: &str) -> bool {
        let began = Instant::now();
        let messages = match self.client(member, instance).messages(room).await {
            Ok(messages) => {
                let messages = messages.into_iter().map(|message| Read {
                    seq: message.seq,
                    sent: message.sender_id.zip(message.client_message_id),
                });
                Some(messages.collect())
            }
            Err(refused) if refused.status() == Some(StatusCode::GONE) => None,
            Err(refused) => {
                self.lost(&refused);
                return false;
            }
        };
        self.note(format!("member {member} reads {room}: {messages:?}"));
        let reading = Reading {
            room: room.to_owned(),
            began,
            answered: Instant::now(),
            messages,
        };
        self.history().readings.push(reading);
        true
    }

    /// Without an answer, or told to come again: anything may have happened. Any other refusal is wrong.
    fn lost(&self, refused: &ClientError) {
        match refused.status() {
            None | Some(StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {}
            Some(_) => self.wrong(format!("refused: {refused}")),
        }
    }
}

/// A request with what it is about.
enum Chosen {
    Nothing,
    Open {
        id: i64,
    },
    Send {
        room: String,
        message: String,
        twice: bool,
    },
    Read {
        room: String,
    },
}
