//! The table as it truly was: each row from its insert to its end, whatever ids it had in between.
//!
//! Invariant: a row's number never changes and its title tells it, so whoever shows a title shows which row
//! it has seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// Position in [`Table::rows`].
pub type RowNumber = usize;

/// Title and status.
pub type Look = (String, String);

#[derive(Clone, Debug)]
pub struct Row {
    pub seller: i64,
    pub status: &'static str,
    version: u32,
    pub number: RowNumber,
    /// How it looked, from its insert to now.
    pub looks: Vec<Look>,
    /// Where it is, while it lives.
    pub id: Option<i64>,
    /// When the change that ended it was begun.
    pub ended: Option<Instant>,
}

impl Row {
    pub fn title(&self) -> String {
        format!("글 {}.{}", self.number, self.version)
    }

    fn remember_look(&mut self) {
        self.looks.push((self.title(), self.status.to_owned()));
    }
}

/// A stay of a row at an id.
#[derive(Clone, Debug)]
struct Stay {
    row: RowNumber,
    /// From another id.
    moved: bool,
    since: Instant,
    until: Option<Instant>,
}

/// What chat-service was seen to know of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub row: RowNumber,
    pub live: bool,
}

#[derive(Debug, Default)]
pub struct Table {
    pub rows: Vec<Row>,
    stays: BTreeMap<i64, Vec<Stay>>,
}

impl Table {
    pub fn at(&self, id: i64) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == Some(id))
    }

    /// Puts a new row there, and answers its title.
    pub fn insert(&mut self, id: i64, seller: i64, at: Instant) -> String {
        let number = self.rows.len();
        let mut row = Row {
            seller,
            status: "on_sale",
            version: 0,
            number,
            looks: Vec::new(),
            id: Some(id),
            ended: None,
        };
        row.remember_look();
        let title = row.title();
        self.rows.push(row);
        self.arrive(number, false, id, at);
        title
    }

    /// Changes the row there, and answers its title.
    pub fn update(&mut self, id: i64, new_title: bool, status: &'static str) -> Option<String> {
        let row = self.rows.iter_mut().find(|row| row.id == Some(id))?;
        row.version += u32::from(new_title);
        row.status = status;
        row.remember_look();
        Some(row.title())
    }

    pub fn delete(&mut self, id: i64, at: Instant) {
        if let Some(row) = self.leave(id, at) {
            self.rows[row].ended = Some(at);
        }
    }

    pub fn change_id(&mut self, from: i64, to: i64, at: Instant) {
        if let Some(row) = self.leave(from, at) {
            self.rows[row].id = Some(to);
            self.arrive(row, true, to, at);
        }
    }

    pub fn truncate(&mut self, at: Instant) {
        let ids: Vec<i64> = self.rows.iter().filter_map(|row| row.id).collect();
        for id in ids {
            self.delete(id, at);
        }
    }

    fn arrive(&mut self, row: RowNumber, moved: bool, id: i64, at: Instant) {
        let stay = Stay {
            row,
            moved,
            since: at,
            until: None,
        };
        self.stays.entry(id).or_default().push(stay);
    }

    fn leave(&mut self, id: i64, at: Instant) -> Option<RowNumber> {
        let row = self.rows.iter_mut().find(|row| row.id == Some(id))?;
        row.id = None;
        let stay = self.stays.get_mut(&id)?.last_mut()?;
        stay.until = Some(at);
        Some(stay.row)
    }

    /// The rows that chat-service can have met at `id` by `then`, or at any time, having known `before`
    /// when it was asked and `after` when it answered: what it knows never goes back.
    pub fn met(
        &self,
        id: i64,
        then: Option<Instant>,
        before: Option<Known>,
        after: Option<RowNumber>,
    ) -> BTreeSet<RowNumber> {
        let stays = self.stays_from(id, then, before);
        let last = match after {
            Some(row) => stays
                .iter()
                .rposition(|stay| stay.row == row)
                .map(|last| last + 1),
            None => Some(stays.len()),
        };
        let met = stays[..last.unwrap_or_default()].iter();
        met.map(|stay| stay.row).collect()
    }

    /// Whether chat-service can know by `then` that a row it knew at `id`, or a later one, is gone from there.
    pub fn left(&self, id: i64, then: Instant, before: Option<Known>) -> bool {
        before.is_some_and(|known| !known.live)
            || self
                .stays_from(id, Some(then), before)
                .iter()
                .any(|stay| stay.until.is_some_and(|until| until <= then))
    }

    /// Whether chat-service can know by `then` that a row has come from another id behind the one it knew at `id`,
    /// and not yet which.
    pub fn moved_in(&self, id: i64, then: Instant, before: Known) -> bool {
        let stays = self.stays_from(id, Some(then), Some(before)).iter();
        let mut behind = stays.skip(usize::from(before.live));
        behind.any(|stay| stay.moved)
    }

    fn stays_from(&self, id: i64, then: Option<Instant>, before: Option<Known>) -> &[Stay] {
        let stays = self.stays.get(&id).map_or(&[][..], Vec::as_slice);
        let begun = stays.partition_point(|stay| then.is_none_or(|then| stay.since <= then));
        let first = before.map_or(0, |known| {
            let stay = stays.iter().position(|stay| stay.row == known.row);
            // One that is gone is not met any more.
            stay.map_or(0, |first| first + usize::from(!known.live))
        });
        stays[..begun].get(first..).unwrap_or_default()
    }
}

/// The number of the row that has or had this title.
pub fn row_of(title: &str) -> Option<RowNumber> {
    title.strip_prefix("글 ")?.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_row_is_followed_over_its_ids_and_told_from_others_at_the_same() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut table = Table::default();
        let first = table.insert(1, 7, at(0));
        table.change_id(1, 2, at(1));
        table.insert(1, 8, at(2));
        table.delete(1, at(3));
        let third = table.insert(1, 9, at(4));
        assert_eq!((row_of(&first), row_of(&third)), (Some(0), Some(2)));
        assert_eq!(table.rows[0].id, Some(2));
        assert_eq!((table.rows[1].id, table.rows[1].ended), (None, Some(at(3))));

        let known = |row, live| Some(Known { row, live });
        let all = BTreeSet::from([0, 1, 2]);
        assert_eq!(table.met(1, None, None, None), all);
        assert_eq!(
            table.met(1, Some(at(3)), None, None),
            BTreeSet::from([0, 1]),
            "not begun"
        );
        assert_eq!(
            table.met(1, Some(at(9)), known(1, true), None),
            BTreeSet::from([1, 2])
        );
        assert_eq!(
            table.met(1, Some(at(9)), known(1, false), None),
            BTreeSet::from([2])
        );
        assert_eq!(table.met(1, Some(at(9)), None, Some(1)), BTreeSet::from([0, 1]));
        assert_eq!(
            table.met(1, Some(at(9)), known(2, true), Some(1)),
            BTreeSet::new(),
            "went back"
        );

        let moved_in = |id, row, live| table.moved_in(id, at(9), Known { row, live });
        assert!(moved_in(2, 7, false), "after one that had been there");
        assert!(!moved_in(2, 0, true), "it is the one");
        assert!(!moved_in(1, 1, true), "created there");
        assert!(table.left(1, at(9), None));
        assert!(!table.left(1, at(9), known(2, true)), "it is there");
        assert!(!table.left(1, at(0), known(0, true)), "not yet");
        table.truncate(at(10));
        assert!(table.rows.iter().all(|row| row.ended.is_some()));
    }
}
