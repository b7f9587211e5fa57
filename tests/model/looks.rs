//! What must hold of the changes of a post that the members of its rooms were told of: both were told the
//! same, of looks that the row has had, in their order, the last of them being how it is; and the room's
//! system messages say the same.

use std::collections::BTreeSet;

use chat_service::{
    message::{Content, Message, PostEvent},
    room::Room,
};

use crate::{
    history::History,
    seen::Seen,
    table::{Look, Row, row_of},
    told::Told,
};

/// Checks what members were told of the room's post, who are `members`, if that is known.
pub fn check(history: &History, members: Option<[i64; 2]>, told: &Told, complain: &mut impl FnMut(String)) {
    let Some(looks) = told.looks.values().next() else {
        return;
    };
    let to: BTreeSet<i64> = told.looks.keys().copied().collect();
    let is_both = members.map_or(to.len() == 2, |members| to == BTreeSet::from(members));
    if !is_both || told.looks.values().any(|others| others != looks) {
        complain(format!(
            "members {members:?} were told of changes differently: {:?}",
            told.looks
        ));
    }
    if looks.windows(2).any(|pair| pair[0] == pair[1]) {
        complain(format!("told twice of the same change: {looks:?}"));
    }
    // Some may have come and gone before it was told of them; none comes back.
    let row = row_of(&looks[0].0).and_then(|row| history.table.rows.get(row));
    let mut had = row.map_or(&[][..], |row| row.looks.as_slice()).iter();
    if !looks.iter().all(|look| had.any(|had| had == look)) {
        complain(format!("told of {looks:?}, of {row:?}"));
    }
}

/// Checks that the row, of which members were told, is one of those that the room can be about.
pub fn is_about(rows: &[&Row], told: &Told, complain: &mut impl FnMut(String)) {
    let is_one = |(title, _): &Look| rows.iter().any(|row| row_of(title) == Some(row.number));
    if !told.looks.values().flatten().all(is_one) {
        complain(format!("about one of {rows:?}, and told of {:?}", told.looks));
    }
}

/// Checks that members of a room that is there know how its post is now.
pub fn newest(seen: &Seen, room: &Room, told: &Told, complain: &mut impl FnMut(String)) {
    let post = seen.posts.get(&room.trade_post_id);
    let is = post.and_then(|post| Some((post.title.clone()?, post.status.clone()?)));
    let known = (room.told.title.clone(), room.told.status.clone());
    if is.as_ref() != Some(&known) {
        complain(format!("its post is {is:?}, and it has told of {:?}", room.told));
    }
    if told.looks.values().any(|looks| looks.last() != Some(&known)) {
        complain(format!("it has told of {known:?}, but at last {:?}", told.looks));
    }
}

/// Checks that system messages and what was told at the time agree.
pub fn events<'a>(
    room: &Room,
    messages: impl Iterator<Item = &'a Message>,
    told: &Told,
    complain: &mut impl FnMut(String),
) {
    let events = messages.filter_map(|message| match message.content {
        Content::System { event } => Some(status_of(event)),
        Content::Text { .. } | Content::Erased { .. } => None,
    });
    let events: Vec<&str> = events.collect();
    let statuses = told.statuses();
    // What was told first may be how it was before: then only the title was another one.
    let agree = events == statuses || statuses.get(1..).is_some_and(|changed| events == changed);
    if !agree {
        complain(format!("told of {statuses:?}, and it has the events {events:?}"));
    }
    if events.last().is_some_and(|last| *last != room.told.status) {
        complain(format!("its last event is {events:?}: {room:?}"));
    }
}

fn status_of(event: PostEvent) -> &'static str {
    match event {
        PostEvent::TradePostOnSale => "on_sale",
        PostEvent::TradePostReserved => "reserved",
        PostEvent::TradePostSold => "sold",
    }
}
