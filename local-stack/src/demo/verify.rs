//! Checks, in MongoDB and through the REST APIs, that the chats of deleted posts are gone, that all
//! others are as they were, and that the members were told.
//!
//! Invariant: a check never stops at the first thing that is wrong; it names all of it.

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::{
    Database,
    bson::{Document, doc},
};
use reqwest::StatusCode;

use super::{
    content::{Content, content, object_ids},
    listen::Told,
    load::{Clients, LoadedPost, client},
    told::{Tale, wrong_sequence, wrong_tales},
};
use crate::client::ClientError;

const AT_ONCE: usize = 8;

/// What was looked at, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) title: String,
    pub(super) wrong: Vec<String>,
}

/// The posts after the deletes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<'a> {
    pub(super) chat: &'a Database,
    pub(super) clients: &'a Clients,
    pub(super) posts: &'a [LoadedPost],
    /// A deleted post that is none of them.
    pub(super) without_chats: i64,
}

impl<'a> Outcome<'a> {
    fn deleted(self) -> impl Iterator<Item = &'a LoadedPost> {
        self.posts.iter().filter(|post| post.deleted_by.is_some())
    }

    fn kept(self) -> impl Iterator<Item = &'a LoadedPost> {
        self.posts.iter().filter(|post| post.deleted_by.is_none())
    }

    /// MongoDB holds nothing of the deleted posts.
    pub(super) async fn nothing_left(self) -> Result<Check> {
        let (rooms, messages) = (counts(self.deleted()), counts(self.kept()));
        let mut wrong = Vec::new();
        let deleted: Vec<i64> = self
            .deleted()
            .map(|post| post.id)
            .chain([self.without_chats])
            .collect();
        let deleted_rooms = object_ids(self.deleted().flat_map(|post| &post.rooms))?;
        for (what, collection, filter, expected) in [
            (
                "rooms of deleted posts",
                "rooms",
                doc! { "trade_post_id": { "$in": &deleted } },
                0,
            ),
            (
                "messages of deleted posts",
                "messages",
                doc! { "room_id": { "$in": deleted_rooms } },
                0,
            ),
            ("rooms in all", "rooms", doc! {}, messages.0),
            ("messages in all", "messages", doc! {}, messages.1),
            (
                "deletions that are not done",
                "deletions",
                doc! { "state": { "$ne": "done" } },
                0,
            ),
            (
                "fences of deleted posts",
                "trade_posts",
                doc! { "_id": { "$in": &deleted }, "state": "deleted" },
                deleted.len(),
            ),
            ("records that were not understood", "dead_letters", doc! {}, 0),
        ] {
            let documents = self.chat.collection::<Document>(collection);
            let found = usize::try_from(documents.count_documents(filter).await?)?;
            if found != expected {
                wrong.push(format!(
                    "{what}: {found} in the collection {collection} instead of {expected}"
                ));
            }
        }
        for post in self.deleted() {
            let deletions = client(self.clients, post.seller)?.deletions(post.id).await?;
            let found: Vec<(i64, i64)> = deletions.iter().map(|d| (d.rooms, d.messages)).collect();
            let expected = (i64::try_from(post.rooms.len())?, i64::try_from(post.messages())?);
            if found != [expected] {
                wrong.push(format!(
                    "post {}: deletions of rooms and messages are {found:?} instead of [{expected:?}]",
                    post.id
                ));
            }
        }
        Ok(Check {
            title: format!(
                "MongoDB: of {} deleted posts, 0 of {} rooms and 0 of {} messages are left",
                deleted.len(),
                rooms.0,
                rooms.1
            ),
            wrong,
        })
    }

    /// The other posts' rooms are byte by byte what they were, and the APIs show all of it.
    pub(super) async fn others_untouched(self, before: &Content) -> Result<Check> {
        let rooms = || self.kept().flat_map(|post| &post.rooms);
        let after = content(self.chat, rooms()).await?;
        let mut wrong: Vec<String> = rooms()
            .filter(|room| before.get(&room.id) != after.get(&room.id))
            .map(|room| {
                let shown = |content: Option<&String>| content.map_or("nothing", String::as_str).to_owned();
                format!(
                    "room {} was {} and is {}",
                    room.id,
                    shown(before.get(&room.id)),
                    shown(after.get(&room.id))
                )
            })
            .collect();
        let messages = stream::iter(rooms()).map(async |room| {
            let shown = client(self.clients, room.buyer)?.messages(&room.id).await?;
            let problem = format!("room {} does not show the messages that were sent", room.id);
            anyhow::Ok((shown != room.messages).then_some(problem))
        });
        let lists = stream::iter(self.clients).map(async |(member, client)| {
            let mut shown: Vec<String> = client.rooms().await?.into_iter().map(|room| room.id).collect();
            let mut expected: Vec<String> = rooms()
                .filter(|room| room.members().contains(member))
                .map(|room| room.id.clone())
                .collect();
            shown.sort();
            expected.sort();
            let problem = format!("member {member} is shown the rooms {shown:?} instead of {expected:?}");
            anyhow::Ok((shown != expected).then_some(problem))
        });
        let posts = stream::iter(self.kept()).map(async |post| {
            let shown = client(self.clients, post.seller)?.post(post.id).await?;
            let problem = format!(
                "post {} has the title {} instead of {}",
                post.id, shown.title, post.title
            );
            anyhow::Ok((shown.title != post.title).then_some(problem))
        });
        wrong.extend(problems(messages.buffer_unordered(AT_ONCE)).await?);
        wrong.extend(problems(lists.buffer_unordered(AT_ONCE)).await?);
        wrong.extend(problems(posts.buffer_unordered(AT_ONCE)).await?);
        let (rooms, messages) = counts(self.kept());
        Ok(Check {
            title: format!(
                "MongoDB and REST: the other {} posts, {rooms} rooms and {messages} messages are as before",
                self.kept().count()
            ),
            wrong,
        })
    }

    /// The APIs say that the deleted posts and their rooms are gone, and let nobody write.
    pub(super) async fn refused(self) -> Result<Check> {
        let posts = self.deleted().map(|post| (post.id, post.seller));
        let buyer = self.clients.keys().next_back().copied().unwrap_or_default();
        let posts = stream::iter(posts.chain([(self.without_chats, 0)])).map(async |(post, seller)| {
            let anybody = client(self.clients, buyer)?;
            let mut wrong = vec![
                not(StatusCode::NOT_FOUND, anybody.post(post).await),
                not(StatusCode::GONE, anybody.open_room_once(post).await),
            ];
            if let Some(seller) = self.clients.get(&seller) {
                wrong.push(not(StatusCode::NOT_FOUND, seller.delete_post(post).await));
            }
            anyhow::Ok(wrong.into_iter().flatten())
        });
        let members = self
            .deleted()
            .flat_map(|post| &post.rooms)
            .flat_map(|room| room.members().map(|member| (member, room)));
        let rooms = stream::iter(members).map(async |(member, room)| {
            let member = client(self.clients, member)?;
            let wrong = [
                not(StatusCode::GONE, member.room(&room.id).await),
                not(StatusCode::GONE, member.messages_after(&room.id, 0).await),
                not(
                    StatusCode::GONE,
                    member.send(&room.id, "too late", "아직 있나요?").await,
                ),
            ];
            anyhow::Ok(wrong.into_iter().flatten())
        });
        let mut wrong = problems(posts.buffer_unordered(AT_ONCE)).await?;
        wrong.extend(problems(rooms.buffer_unordered(AT_ONCE)).await?);
        Ok(Check {
            title: "REST: deleted posts answer 404, their rooms 410 to reading, writing and opening anew"
                .to_owned(),
            wrong,
        })
    }

    /// The members of closed rooms were told once, nobody else anything.
    pub(super) async fn told_once(self, told: &[Told]) -> Result<Check> {
        let expected: Vec<(i64, &str)> = self
            .deleted()
            .flat_map(|post| &post.rooms)
            .flat_map(|room| room.members().map(|member| (member, room.id.as_str())))
            .collect();
        let tales = told.iter().map(|told| Tale {
            member: told.member,
            room: &told.room,
            kind: &told.kind,
        });
        let mut wrong = wrong_tales(expected.iter().copied(), tales);
        for member in self.clients.keys() {
            let seqs = told.iter().filter(|told| told.member == *member);
            let seqs: Vec<i64> = seqs.map(|told| told.seq).collect();
            wrong.extend(wrong_sequence(*member, &seqs));
        }
        let stored: Vec<(i64, String)> = self
            .chat
            .collection::<Document>("notifications")
            .find(doc! { "kind": "room_closed" })
            .await?
            .map(|found| {
                let found = found?;
                anyhow::Ok((
                    found.get_i64("member_id")?,
                    found.get_object_id("room_id")?.to_hex(),
                ))
            })
            .try_collect()
            .await?;
        let tales = stored.iter().map(|(member, room)| Tale {
            member: *member,
            room,
            kind: "room_closed",
        });
        let kept = wrong_tales(expected.iter().copied(), tales);
        wrong.extend(kept.into_iter().map(|problem| format!("in MongoDB, {problem}")));
        Ok(Check {
            title: format!(
                "SSE and notifications: {} times a member of a closed room was told, each once, and nobody else",
                expected.len()
            ),
            wrong,
        })
    }
}

/// Rooms and messages.
fn counts<'a>(posts: impl Iterator<Item = &'a LoadedPost>) -> (usize, usize) {
    posts.fold((0, 0), |(rooms, messages), post| {
        (rooms + post.rooms.len(), messages + post.messages())
    })
}

/// What is wrong with an answer that should have that status.
fn not<T>(expected: StatusCode, answer: Result<T, ClientError>) -> Option<String> {
    match answer {
        Err(error) if error.status() == Some(expected) => None,
        Err(error) => Some(format!("{error}, instead of {expected}")),
        Ok(_) => Some(format!("a request succeeded that {expected} should refuse")),
    }
}

async fn problems<P: IntoIterator<Item = String>>(
    found: impl stream::Stream<Item = Result<P>>,
) -> Result<Vec<String>> {
    let found: Vec<P> = found.try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}
