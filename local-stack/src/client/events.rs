//! A member's event stream, read as an app reads it: it remembers the last id, and can come back.
//!
//! Invariant: [`EventStream::reconnect`] goes on behind the last frame that was given out, so what was
//! received but not given out yet is received again and never twice.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::BoxStream};
use reqwest::{
    Method,
    header::{ACCEPT, HeaderName},
};
use serde::de::DeserializeOwned;

use super::{
    Client, ClientError, answer,
    sse::{Frame, Parser},
};

type Bytes = BoxStream<'static, Result<Vec<u8>, reqwest::Error>>;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A frame with data.
#[derive(Clone, Debug)]
pub struct Event {
    /// The member's sequence.
    pub id: i64,
    /// `message`, `room_created`, `room_closed`, `reset` …
    pub name: String,
    pub data: String,
    /// When the last byte of its frame had been read.
    pub read_at: Instant,
}

impl Event {
    /// The data as what it is for, such as [`super::Notification`].
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.data)
    }
}

pub struct EventStream {
    client: Client,
    bytes: Bytes,
    parser: Parser,
    ready: VecDeque<(Frame, Instant)>,
    last_id: Option<i64>,
    retry: Option<Duration>,
}

impl EventStream {
    pub(super) async fn open(client: Client, last_id: Option<i64>) -> Result<Self, ClientError> {
        Ok(Self {
            bytes: connect(&client, last_id).await?,
            client,
            parser: Parser::default(),
            ready: VecDeque::new(),
            last_id,
            retry: None,
        })
    }

    /// The next event; none when the server has ended the stream.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        while let Some((frame, read_at)) = self.next_frame().await? {
            if let Some(data) = frame.data {
                return Ok(Some(Event {
                    id: self.last_id.unwrap_or_default(),
                    name: frame.event.unwrap_or_else(|| "message".to_owned()),
                    data,
                    read_at,
                }));
            }
        }
        Ok(None)
    }

    /// The next frame, also if it is only a comment, and when it was read.
    pub async fn next_frame(&mut self) -> Result<Option<(Frame, Instant)>, ClientError> {
        loop {
            if let Some((frame, read_at)) = self.ready.pop_front() {
                if let Some(id) = frame.id.as_deref().and_then(|id| id.parse().ok()) {
                    self.last_id = Some(id);
                }
                self.retry = frame.retry.or(self.retry);
                return Ok(Some((frame, read_at)));
            }
            match self.bytes.next().await {
                None => return Ok(None),
                Some(Ok(piece)) => {
                    let read_at = Instant::now();
                    let frames = self.parser.push(&piece);
                    self.ready
                        .extend(frames.into_iter().map(|frame| (frame, read_at)));
                }
                Some(Err(source)) => {
                    return Err(ClientError::Unanswered {
                        request: "the event stream".to_owned(),
                        source,
                    });
                }
            }
        }
    }

    /// Opens the stream anew behind [`EventStream::last_id`].
    pub async fn reconnect(&mut self) -> Result<(), ClientError> {
        self.bytes = connect(&self.client, self.last_id).await?;
        self.parser = Parser::default();
        self.ready.clear();
        Ok(())
    }

    /// Id of the last frame given out that had one. The server's first frame has one, without data.
    pub fn last_id(&self) -> Option<i64> {
        self.last_id
    }

    /// How long the server asks to wait before coming back.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }
}

async fn connect(client: &Client, last_id: Option<i64>) -> Result<Bytes, ClientError> {
    let mut request = client
        .chat(Method::GET, "/v1/events")
        .header(ACCEPT, "text/event-stream");
    if let Some(id) = last_id {
        request = request.header(LAST_EVENT_ID, id);
    }
    let (_, response) = answer(request).await?;
    let bytes = response.bytes_stream();
    Ok(bytes.map(|piece| piece.map(|piece| piece.to_vec())).boxed())
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("last_id", &self.last_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::client::Bases;

    /// Answers one request per body and closes the connection. Gives what each request asked to go on from.
    async fn serve(listener: TcpListener, bodies: [&'static str; 2]) -> Vec<Option<String>> {
        let mut asked = Vec::new();
        for body in bodies {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(connection.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let id = head.lines().find_map(|line| line.strip_prefix("last-event-id: "));
            asked.push(id.map(str::to_owned));
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}"
            );
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    }

    #[tokio::test]
    async fn a_stream_goes_on_behind_the_last_event_given_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(serve(
            listener,
            [
                "retry: 1500\nid: 6\n\nid: 7\ndata: {}\n\nid: 8\ndata: not given out\n\n",
                "id: 8\nevent: room_closed\ndata: {}\n\nid: 9\ndata: cut",
            ],
        ));
        let bases = Bases {
            trade: base.clone(),
            chat: base.clone(),
            chat_admin: base,
        };
        let client = Client::new(bases, "token").unwrap();
        let mut stream = client.events(None).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().id, 7);
        assert_eq!(
            (stream.last_id(), stream.retry()),
            (Some(7), Some(Duration::from_millis(1500)))
        );

        stream.reconnect().await.unwrap();
        let event = stream.next().await.unwrap().unwrap();
        assert_eq!((event.id, event.name.as_str()), (8, "room_closed"));
        assert!(stream.next().await.unwrap().is_none());
        assert_eq!(server.await.unwrap(), [None, Some("7".to_owned())]);
    }
}
