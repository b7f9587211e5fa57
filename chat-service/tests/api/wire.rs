//! A proxy in front of MongoDB that reads its wire protocol, and can falsify what a change stream is
//! told: nothing at all, or that its resume token has expired. Everything else passes unchanged.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use mongodb::bson::{Bson, Document, deserialize_from_slice, doc, serialize_to_vec};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

const OP_MSG: i32 = 2013;
const HEADER: usize = 16;
/// Flags and the kind of the first section, before its document.
const BODY: usize = HEADER + 4 + 1;

/// What a change stream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Everything,
    Nothing,
    /// Once. Afterwards it is told everything.
    HistoryLost,
}

pub struct Wire {
    pub uri: String,
    state: Arc<State>,
    _connections: JoinSet<()>,
}

struct State {
    target: SocketAddr,
    told: Mutex<Told>,
    /// Answers that were falsified.
    falsified: AtomicUsize,
    /// Change streams that were opened.
    opened: AtomicUsize,
}

impl Wire {
    pub async fn start() -> Self {
        let uri = local_stack::testing::mongo().await.uri();
        let host = uri
            .split(['@', '/'])
            .find(|part| part.contains(':') && !part.ends_with(':'));
        let target = tokio::net::lookup_host(host.unwrap())
            .await
            .unwrap()
            .next()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target,
            told: Mutex::new(Told::Everything),
            falsified: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
        });
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, Arc::clone(&state)));
        // Without the direct connection, the driver would go to the address that the server names.
        let uri = format!("mongodb://{address}/?directConnection=true");
        Self {
            uri,
            state,
            _connections: connections,
        }
    }

    pub fn tell(&self, told: Told) {
        *self.state.told.lock().unwrap() = told;
    }

    pub fn falsified(&self) -> usize {
        self.state.falsified.load(Ordering::Relaxed)
    }

    pub fn opened(&self) -> usize {
        self.state.opened.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut pairs = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        pairs.spawn(pair(client, Arc::clone(&state)));
    }
}

/// One connection, until either side ends it.
async fn pair(client: TcpStream, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(state.target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Requests of change streams whose answer is to come.
    let asked = Arc::new(Mutex::new(HashSet::new()));
    let requests = requests(from_client, to_server, Arc::clone(&asked), &state);
    let answers = answers(from_server, to_client, asked, &state);
    tokio::select! {
        _ = requests => {}
        _ = answers => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Arc<Mutex<HashSet<i32>>>,
    state: &State,
) -> std::io::Result<()> {
    loop {
        let message = read(&mut from).await?;
        if let Some(command) = body(&message) {
            if command
                .get_str("collection")
                .is_ok_and(|name| name == "notifications")
                && command.contains_key("getMore")
            {
                asked.lock().unwrap().insert(int(&message, 4));
            }
            let stages = command.get_array("pipeline").into_iter().flatten();
            if stages
                .filter_map(Bson::as_document)
                .any(|stage| stage.contains_key("$changeStream"))
            {
                state.opened.fetch_add(1, Ordering::Relaxed);
            }
        }
        to.write_all(&message).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Arc<Mutex<HashSet<i32>>>,
    state: &State,
) -> std::io::Result<()> {
    loop {
        let mut message = read(&mut from).await?;
        if asked.lock().unwrap().remove(&int(&message, 8)) {
            let mut answer = body(&message).unwrap();
            let mut told = state.told.lock().unwrap();
            match *told {
                Told::Everything => {}
                Told::Nothing => {
                    let cursor = answer.get_document_mut("cursor").unwrap();
                    if !cursor.get_array("nextBatch").unwrap().is_empty() {
                        cursor.insert("nextBatch", Vec::<Bson>::new());
                        message = with_body(&message, &answer);
                        state.falsified.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Told::HistoryLost => {
                    *told = Told::Everything;
                    let lost = doc! {
                        "ok": 0.0,
                        "errmsg": "Resume of change stream was not possible, as the resume point may no longer be in the oplog.",
                        "code": 286,
                        "codeName": "ChangeStreamHistoryLost",
                    };
                    message = with_body(&message, &lost);
                    state.falsified.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        to.write_all(&message).await?;
    }
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = from.read_i32_le().await?;
    let mut message = length.to_le_bytes().to_vec();
    message.resize(usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[4..]).await?;
    Ok(message)
}

fn int(message: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(message[at..at + 4].try_into().unwrap())
}

/// The command or the answer, if the message holds one.
fn body(message: &[u8]) -> Option<Document> {
    let kind = *message.get(BODY - 1)?;
    if int(message, 12) != OP_MSG || kind != 0 {
        return None;
    }
    let length = usize::try_from(int(message, BODY)).unwrap();
    Some(deserialize_from_slice(&message[BODY..BODY + length]).unwrap())
}

fn with_body(message: &[u8], body: &Document) -> Vec<u8> {
    let body = serialize_to_vec(body).unwrap();
    let length = i32::try_from(BODY + body.len()).unwrap();
    let mut changed = length.to_le_bytes().to_vec();
    changed.extend(&message[4..HEADER]);
    // No flags, one section.
    changed.extend([0; 5]);
    changed.extend(body);
    changed
}
