//! What must hold when a round is over and chat-service has caught up: history and what is left, in;
//! differences, out. Pure. What is to hold of a room is in `rooms`.

use std::collections::BTreeSet;

use chat_service::{
    notification::{Kind, Notification},
    store::{
        deletions::{Deletion, DeletionState},
        posts::PostState,
    },
};
use local_stack::client;
use mongodb::bson::oid::ObjectId;

use crate::{
    history::History,
    rooms,
    seen::{Others, Seen},
    table::Look,
};

/// Differences between what is and what must be; none if all is well.
pub fn differences(history: &History, seen: &Seen, others: Others) -> Vec<String> {
    let mut wrong = history.wrong_answers();
    projection(history, seen, &mut wrong);
    sequences(seen, &mut wrong);
    let gone = rooms::check(history, seen, &mut wrong);
    deletions(seen, &gone, &mut wrong);
    streams(seen, &mut wrong);
    if seen.others != others {
        wrong.push(format!("of others there was {others:?} and is {:?}", seen.others));
    }
    wrong
}

/// The projection shows each row that lives as it is, and nothing else as live.
fn projection(history: &History, seen: &Seen, wrong: &mut Vec<String>) {
    for row in &history.table.rows {
        let Some(id) = row.id else { continue };
        let must = (
            PostState::Live,
            Some(row.seller),
            Some(row.title()),
            Some(row.status.to_owned()),
        );
        let is = seen.posts.get(&id).cloned();
        let is = is.map(|post| (post.state, post.seller_id, post.title, post.status));
        if is.as_ref() != Some(&must) {
            wrong.push(format!("post {id} is {must:?} and known as {is:?}"));
        }
    }
    for post in seen.posts.values() {
        if post.state == PostState::Live && history.table.at(post.id).is_none() {
            wrong.push(format!("a post is gone and known as live: {post:?}"));
        }
    }
}

/// Each member's notifications are numbered from 1 without gaps.
fn sequences(seen: &Seen, wrong: &mut Vec<String>) {
    let members: BTreeSet<&i64> = seen.notifications.keys().chain(seen.inboxes.keys()).collect();
    for member in members {
        let told = seen.notifications.get(member).map_or(&[][..], Vec::as_slice);
        let next = seen.inboxes.get(member).copied().unwrap_or_default();
        if !told.iter().map(|notification| notification.seq).eq(1..next) {
            let seqs: Vec<i64> = told.iter().map(|notification| notification.seq).collect();
            wrong.push(format!(
                "member {member} has the sequences {seqs:?}, and {next} is next"
            ));
        }
    }
}

/// Every deletion is done, and together they have counted what is gone.
fn deletions(seen: &Seen, gone: &rooms::Gone, wrong: &mut Vec<String>) {
    for deletion in &seen.deletions {
        if deletion.state != DeletionState::Done {
            wrong.push(format!("not done: {deletion:?}"));
        }
    }
    let sum = |count: fn(&Deletion) -> i64| seen.deletions.iter().map(count).sum();
    let counted = (sum(|deletion| deletion.rooms), sum(|deletion| deletion.messages));
    let erased = (
        sum(|deletion| deletion.erased.rooms),
        sum(|deletion| deletion.erased.messages),
    );
    let (rooms, messages) = counted;
    if erased != counted || rooms != gone.rooms || !gone.messages.contains(&messages) {
        wrong.push(format!(
            "gone are {gone:?}; deletions have counted {counted:?} and erased {erased:?}"
        ));
    }
}

/// Each member was told by stream, and is shown by REST, what is stored.
fn streams(seen: &Seen, wrong: &mut Vec<String>) {
    for (member, frames) in &seen.frames {
        let stored = seen.notifications.get(member).map_or(&[][..], Vec::as_slice);
        let stored: Vec<_> = stored.iter().map(stored_event).collect();
        let (_, shown) = &seen.shown[member];
        let shown: Vec<_> = shown.iter().map(shown_event).collect();
        if shown != stored {
            wrong.push(format!("member {member} has {stored:#?} and is shown {shown:#?}"));
        }
        let read: Vec<_> = frames.iter().map(read_event).collect();
        if read != stored {
            let same = read
                .iter()
                .zip(&stored)
                .take_while(|(read, stored)| read == stored);
            let same = same.count();
            wrong.push(format!(
                "member {member} has read {} events of {}; after {same} that are right {:?} instead of {:?}",
                read.len(),
                stored.len(),
                read.get(same),
                stored.get(same)
            ));
        }
    }
}

/// Sequence, kind, room and post, and how the post looks if that is what it tells.
type Event = (i64, String, String, i64, Option<Look>);

fn stored_event(notification: &Notification) -> Event {
    let Notification {
        seq,
        kind,
        room_id,
        trade_post_id,
        ..
    } = notification;
    let look = match kind {
        Kind::TradePostChanged { title, status } => Some((title.clone(), status.clone())),
        _ => None,
    };
    let (name, room) = (
        kind.name().to_owned(),
        room_id.map(ObjectId::to_hex).unwrap_or_default(),
    );
    (*seq, name, room, *trade_post_id, look)
}

fn shown_event(notification: &client::Notification) -> Event {
    let client::Notification {
        seq,
        kind,
        room_id,
        trade_post_id,
        title,
        status,
        ..
    } = notification.clone();
    (seq, kind, room_id, trade_post_id, title.zip(status))
}

fn read_event(event: &client::Event) -> Event {
    match event.json::<client::Notification>() {
        Ok(read) if read.seq == event.id && read.kind == event.name => shown_event(&read),
        _ => (event.id, event.name.clone(), event.data.clone(), 0, None),
    }
}
