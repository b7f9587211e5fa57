//! Puts the data set into the running system, through the REST APIs alone.
//!
//! Invariant: a room's messages arrive in their order, except where the order does not matter.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::dataset::{Chat, DeletedBy, Line, Market, Post, Side};
use crate::{
    client::{Bases, Client, Message},
    progress::Step,
    system::System,
};

/// Rooms that are written to at the same time, or posts that are made.
const AT_ONCE: usize = 16;
/// Messages on their way to a room in which their order does not matter.
const UNORDERED: usize = 64;
const TOKEN_LIFE: Duration = Duration::from_hours(1);

/// The members' clients, by member.
pub(super) type Clients = BTreeMap<i64, Client>;

#[derive(Debug)]
pub(super) struct LoadedPost {
    pub(super) id: i64,
    pub(super) seller: i64,
    pub(super) title: String,
    pub(super) deleted_by: Option<DeletedBy>,
    pub(super) rooms: Vec<LoadedRoom>,
}

#[derive(Debug)]
pub(super) struct LoadedRoom {
    pub(super) id: String,
    pub(super) seller: i64,
    pub(super) buyer: i64,
    /// As they were answered, by sequence.
    pub(super) messages: Vec<Message>,
}

impl LoadedPost {
    pub(super) fn messages(&self) -> usize {
        self.rooms.iter().map(|room| room.messages.len()).sum()
    }
}

impl LoadedRoom {
    pub(super) fn members(&self) -> [i64; 2] {
        [self.seller, self.buyer]
    }
}

pub(super) fn clients(system: &System, market: &Market) -> Result<Clients> {
    let endpoints = system.endpoints();
    let bases = Bases {
        trade: endpoints.trade_service,
        chat: endpoints.chat_service,
        chat_admin: endpoints.chat_admin,
    };
    let nobody = Client::new(bases, "")?;
    market
        .members
        .iter()
        .map(|member| {
            let token = system.signer.token(member.id, TOKEN_LIFE)?;
            Ok((member.id, nobody.with_token(token)))
        })
        .collect()
}

/// Makes the posts, opens the rooms, sends the messages.
pub(super) async fn load(market: &Market, clients: &Clients, step: &Step) -> Result<Vec<LoadedPost>> {
    let created: Vec<(&Post, i64)> = stream::iter(&market.posts)
        .map(async |post| {
            let body = json!({
                "title": post.title,
                "body": post.body,
                "price": post.price,
                "category": post.category,
            });
            let created = client(clients, post.seller)?.create_post(&body).await?;
            anyhow::Ok((post, created.id))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;

    let total = market.messages();
    let sent = AtomicUsize::new(0);
    let count = || {
        let sent = sent.fetch_add(1, Ordering::Relaxed) + 1;
        step.position(sent as u64, total as u64);
    };
    // The long chat first: it takes longer than all others together.
    let mut chats: Vec<(&Post, i64, &Chat)> = created
        .iter()
        .flat_map(|(post, id)| post.chats.iter().map(|chat| (*post, *id, chat)))
        .collect();
    chats.sort_by_key(|(_, _, chat)| std::cmp::Reverse(chat.messages.len()));
    let mut rooms: Vec<(i64, LoadedRoom)> = stream::iter(chats)
        .map(async |(post, id, chat)| {
            let room = open_and_talk(clients, post, id, chat, count).await;
            room.map(|room| (id, room))
                .with_context(|| format!("a chat about {} could not be loaded", post.title))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let posts = created.into_iter().map(|(post, id)| {
        let (own, others) = std::mem::take(&mut rooms)
            .into_iter()
            .partition(|(post, _)| *post == id);
        rooms = others;
        let own: Vec<(i64, LoadedRoom)> = own;
        LoadedPost {
            id,
            seller: post.seller,
            title: post.title.clone(),
            deleted_by: post.deleted_by,
            rooms: own.into_iter().map(|(_, room)| room).collect(),
        }
    });
    Ok(posts.collect())
}

async fn open_and_talk(
    clients: &Clients,
    post: &Post,
    post_id: i64,
    chat: &Chat,
    count: impl Fn() + Copy,
) -> Result<LoadedRoom> {
    let (seller, buyer) = (client(clients, post.seller)?, client(clients, chat.buyer)?);
    let room = buyer.open_room(post_id).await?;
    let at_once = if chat.generated { UNORDERED } else { 1 };
    let mut messages: Vec<Message> = stream::iter(chat.messages.iter().enumerate())
        .map(async |(number, Line { from, body })| {
            let sender = match from {
                Side::Seller => seller,
                Side::Buyer => buyer,
            };
            let message = sender.send(&room.id, &number.to_string(), body).await?;
            count();
            anyhow::Ok(message)
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await?;
    messages.sort_by_key(|message| message.seq);
    Ok(LoadedRoom {
        id: room.id,
        seller: post.seller,
        buyer: chat.buyer,
        messages,
    })
}

pub(super) fn client(clients: &Clients, member: i64) -> Result<&Client> {
    clients
        .get(&member)
        .with_context(|| format!("the data set names no member {member}"))
}
