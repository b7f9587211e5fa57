//! Turns a batch of change events into what has to be done, in pure code.
//!
//! Invariant: for one post, doing what the plan says has the same effect as doing what each event
//! says in order, and an event older than the newest one of its batch (by LSN) changes nothing.

use std::collections::HashMap;

use super::change_event::{Arrival, CaptureTimes, Change, ChangeEvent, Event, Position, Post};
use crate::{store::moves::APART, trade_post::Look};

/// One thing to carry out before the next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// What a run of events says of its posts. Every post occurs at most once.
    Posts(Vec<PostPlan>),
    /// Every post older than `lsn` is gone.
    Truncate { lsn: i64, times: CaptureTimes },
}

/// What the events of one post come down to.
#[derive(Debug, PartialEq, Eq)]
pub struct PostPlan {
    pub trade_post_id: i64,
    /// The post's last record of the batch.
    pub last: Position,
    /// Whether that record says that the row is gone. The tombstone behind a delete belongs to it,
    /// also where the delete was an old one that came again and no longer counts.
    pub last_is_delete: bool,
    /// The newest state that the batch knows of.
    pub state: Option<NewState>,
    /// What a row that lives looked like before in this batch, oldest first.
    pub earlier: Vec<Look>,
    /// Each time that a row has left this id, oldest first, whatever came after.
    pub ends: Vec<End>,
    /// Each LSN at which a row has come to this id.
    pub arrivals: Vec<i64>,
    /// Where a tombstone lies before which the batch has nothing of this post.
    pub bare_tombstone: Option<Position>,
}

/// A post's state after the change at `lsn`.
#[derive(Debug, PartialEq, Eq)]
pub struct NewState {
    pub lsn: i64,
    pub row: Row,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Row {
    /// It is there, and the batch may have seen it come.
    Lives { post: Post, arrived: Option<Arrived> },
    /// It was deleted or has another id now; the newest of the ends says which.
    Gone,
}

/// A row has come to its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub lsn: i64,
    pub how: Arrival,
}

/// A row has left its id: rooms of generations up to that LSN are closed, or go along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Deleted(Deleted),
    Moved(Move),
}

impl End {
    pub fn lsn(&self) -> i64 {
        match self {
            Self::Deleted(deleted) => deleted.lsn,
            Self::Moved(moved) => moved.lsn,
        }
    }
}

/// A delete that was read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub lsn: i64,
    /// Unknown for a tombstone.
    pub times: Option<CaptureTimes>,
}

/// A change of a post's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub lsn: i64,
    pub to: i64,
}

/// Plans `events`, which are in the order of their offsets within each partition.
///
/// Besides truncates, steps are divided only where a tombstone without a delete is followed by newer
/// events of its post: what the tombstone deletes is known by the projection alone, before the newer
/// events change it.
pub fn plan(events: impl IntoIterator<Item = Event>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut open = Builder::default();
    for event in events {
        match event {
            Event::Truncate { lsn, times } => {
                steps.extend(open.take());
                steps.push(Step::Truncate { lsn, times });
            }
            // Those of keywords are planned apart, in `keyword_plan`.
            Event::Keyword(_) | Event::KeywordsTruncated { .. } => {}
            Event::Post(event) => {
                if open.has_bare_tombstone(event.trade_post_id) && event.change != Change::Tombstone {
                    steps.extend(open.take());
                }
                open.add(event);
            }
        }
    }
    steps.extend(open.take());
    steps
}

#[derive(Default)]
struct Builder {
    posts: Vec<PostPlan>,
    index: HashMap<i64, usize>,
}

impl Builder {
    fn take(&mut self) -> Option<Step> {
        let Self { posts, .. } = std::mem::take(self);
        (!posts.is_empty()).then_some(Step::Posts(posts))
    }

    fn has_bare_tombstone(&self, trade_post_id: i64) -> bool {
        self.index
            .get(&trade_post_id)
            .is_some_and(|&i| self.posts[i].bare_tombstone.is_some())
    }

    fn add(&mut self, event: ChangeEvent) {
        let ChangeEvent {
            trade_post_id,
            position,
            change,
        } = event;
        let posts = &mut self.posts;
        let index = *self.index.entry(trade_post_id).or_insert_with(|| {
            posts.push(PostPlan {
                trade_post_id,
                last: position,
                last_is_delete: false,
                state: None,
                earlier: Vec::new(),
                ends: Vec::new(),
                arrivals: Vec::new(),
                bare_tombstone: None,
            });
            posts.len() - 1
        });
        posts[index].add(position, change);
    }
}

impl PostPlan {
    fn add(&mut self, position: Position, change: Change) {
        let follows_delete = self.last_is_delete;
        self.last = position;
        self.last_is_delete = !matches!(change, Change::Upsert { .. });
        match change {
            Change::Upsert { lsn, post, arrival } => {
                let arrived = arrival.map(|how| Arrived { lsn, how });
                self.arrivals.extend(arrived.map(|_| lsn));
                self.become_newer(NewState {
                    lsn,
                    row: Row::Lives { post, arrived },
                });
            }
            Change::Delete { lsn, times } => self.end(End::Deleted(Deleted {
                lsn,
                times: Some(times),
            })),
            Change::Move { lsn, to } => self.end(End::Moved(Move { lsn, to })),
            Change::Tombstone if follows_delete => {}
            Change::Tombstone => match &self.state {
                // Its delete was compacted away or lost: it ends the row that came before it.
                // With the rooms that have come there from another id with its last record.
                Some(NewState { lsn, .. }) => self.end(End::Deleted(Deleted {
                    lsn: lsn + APART,
                    times: None,
                })),
                None => self.bare_tombstone = Some(position),
            },
        }
    }

    /// Whether the batch has seen a row come to this id: mostly, nothing was known of it before.
    pub fn has_arrived(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// The newest delete, unless the batch has seen a row go to another id: then its ends are carried out
    /// one after the other.
    pub fn deleted(&self) -> Option<Deleted> {
        let mut newest = None;
        for end in &self.ends {
            match end {
                End::Deleted(deleted) => newest = Some(*deleted),
                End::Moved(_) => return None,
            }
        }
        newest
    }

    /// Whether a row has gone to another id.
    pub fn has_moved(&self) -> bool {
        self.ends.iter().any(|end| matches!(end, End::Moved(_)))
    }

    fn end(&mut self, end: End) {
        let lsn = end.lsn();
        let place = self.ends.partition_point(|known| known.lsn() < lsn);
        if self.ends.get(place).is_none_or(|known| known.lsn() != lsn) {
            self.ends.insert(place, end);
        }
        self.become_newer(NewState { lsn, row: Row::Gone });
    }

    fn become_newer(&mut self, mut state: NewState) {
        if let Some(known) = &self.state {
            if known.lsn > state.lsn {
                return;
            }
            if let (Row::Lives { arrived: known, .. }, Row::Lives { arrived, .. }) =
                (&known.row, &mut state.row)
            {
                *arrived = arrived.or(*known);
            }
        }
        self.remember(state);
    }

    /// Takes `state` over, and keeps how the row looked before if it looks different now.
    fn remember(&mut self, state: NewState) {
        let old = self.state.replace(state);
        let (Some(old), Some(new)) = (old.and_then(NewState::into_look), &self.state) else {
            return;
        };
        match &new.row {
            Row::Lives { post, .. } if (&post.title, &post.status) == (&old.title, &old.status) => {}
            Row::Lives { .. } => self.earlier.push(old),
            // What came before is of no interest to whoever comes after.
            Row::Gone => self.earlier.clear(),
        }
    }

    /// How the row looked in the course of the batch, if it lives.
    pub fn looks(&self) -> Option<Vec<Look>> {
        let NewState { lsn, row } = self.state.as_ref()?;
        let Row::Lives { post, .. } = row else { return None };
        let mut looks = self.earlier.clone();
        looks.push(Look {
            lsn: *lsn,
            title: post.title.clone(),
            status: post.status.clone(),
        });
        Some(looks)
    }
}

impl NewState {
    fn into_look(self) -> Option<Look> {
        match self.row {
            Row::Lives { post, .. } => Some(Look {
                lsn: self.lsn,
                title: post.title,
                status: post.status,
            }),
            Row::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POST: i64 = 7;

    fn post(title: &str) -> Post {
        Post {
            seller_id: 1,
            title: title.into(),
            status: "on_sale".into(),
        }
    }

    fn event(trade_post_id: i64, offset: i64, change: Change) -> Event {
        let position = Position { partition: 0, offset };
        Event::Post(ChangeEvent {
            trade_post_id,
            position,
            change,
        })
    }

    fn events(changes: impl IntoIterator<Item = Change>) -> Vec<Event> {
        (0..)
            .zip(changes)
            .map(|(offset, change)| event(POST, offset, change))
            .collect()
    }

    fn posts(step: Step) -> Vec<PostPlan> {
        match step {
            Step::Posts(posts) => posts,
            Step::Truncate { .. } => panic!("not a step of posts"),
        }
    }

    fn upsert(lsn: i64) -> Change {
        Change::Upsert {
            lsn,
            post: post("자전거"),
            arrival: None,
        }
    }

    fn create(lsn: i64) -> Change {
        Change::Upsert {
            lsn,
            post: post("자전거"),
            arrival: Some(Arrival::Created),
        }
    }

    fn delete(lsn: i64) -> Change {
        Change::Delete {
            lsn,
            times: CaptureTimes::default(),
        }
    }

    fn single(changes: impl IntoIterator<Item = Change>) -> PostPlan {
        let mut plans = plan(events(changes));
        assert_eq!(plans.len(), 1, "{plans:?}");
        let mut posts = posts(plans.remove(0));
        assert_eq!(posts.len(), 1, "{posts:?}");
        posts.remove(0)
    }

    fn lives(plan: &PostPlan) -> Option<bool> {
        plan.state
            .as_ref()
            .map(|state| matches!(state.row, Row::Lives { .. }))
    }

    #[test]
    fn a_delete_and_its_tombstone_are_one_delete() {
        let plan = single([upsert(10), delete(20), Change::Tombstone]);
        assert_eq!(lives(&plan), Some(false));
        assert_eq!(plan.deleted().unwrap().lsn, 20);
        assert_eq!(plan.last.offset, 2);
        assert_eq!(plan.bare_tombstone, None);
    }

    #[test]
    fn a_post_created_again_lives_and_its_old_rooms_close() {
        let plan = single([upsert(10), delete(20), Change::Tombstone, upsert(30)]);
        assert_eq!(lives(&plan), Some(true));
        assert_eq!(plan.deleted().unwrap().lsn, 20);
    }

    #[test]
    fn a_replayed_delete_with_its_tombstone_does_not_delete_the_post_created_again() {
        let plan = single([upsert(30), delete(20), Change::Tombstone, upsert(30)]);
        assert_eq!(lives(&plan), Some(true));
        assert_eq!(plan.deleted().unwrap().lsn, 20);
    }

    #[test]
    fn a_tombstone_without_its_delete_ends_the_row_before_it() {
        let plan = single([upsert(10), Change::Tombstone]);
        assert_eq!(lives(&plan), Some(false));
        let lsn = 10 + APART;
        assert_eq!(plan.deleted(), Some(Deleted { lsn, times: None }));
    }

    #[test]
    fn a_bare_tombstone_is_left_to_the_projection() {
        let plan = single([Change::Tombstone]);
        assert_eq!(plan.state, None);
        assert_eq!(
            plan.bare_tombstone,
            Some(Position {
                partition: 0,
                offset: 0
            })
        );
    }

    #[test]
    fn what_follows_a_bare_tombstone_waits_for_it() {
        let mut steps = plan(events([Change::Tombstone, upsert(30)]));
        assert_eq!(steps.len(), 2);
        assert_eq!(lives(&posts(steps.remove(1))[0]), Some(true));
    }

    #[test]
    fn a_row_is_born_when_it_was_created_and_not_when_it_was_changed() {
        let born = |changes: &[Change]| match single(changes.to_vec()).state.unwrap().row {
            Row::Lives { arrived, .. } => arrived.map(|arrived| arrived.lsn),
            row @ Row::Gone => panic!("{row:?}"),
        };
        assert_eq!(born(&[upsert(10)]), None);
        assert_eq!(born(&[create(10), upsert(11)]), Some(10));
        assert_eq!(born(&[create(10), delete(20), create(30), upsert(31)]), Some(30));
        assert_eq!(born(&[upsert(31), create(30)]), None, "read again");
        let plan = single([create(10), upsert(11), delete(20), create(30)]);
        assert_eq!(plan.arrivals, [10, 30]);
    }

    #[test]
    fn ends_are_kept_oldest_first_and_once() {
        let moved = |lsn, to| Change::Move { lsn, to };
        let plan = single([
            moved(20, 8),
            moved(10, 9),
            Change::Tombstone,
            create(25),
            delete(30),
            moved(20, 8),
        ]);
        let times = Some(CaptureTimes::default());
        let ends = [
            End::Moved(Move { lsn: 10, to: 9 }),
            End::Moved(Move { lsn: 20, to: 8 }),
            End::Deleted(Deleted { lsn: 30, times }),
        ];
        assert_eq!(plan.ends, ends);
        assert_eq!(
            plan.state,
            Some(NewState {
                lsn: 30,
                row: Row::Gone
            })
        );
        assert_eq!((plan.deleted(), plan.bare_tombstone), (None, None));
    }

    fn titled(lsn: i64, title: &str) -> Change {
        Change::Upsert {
            lsn,
            post: post(title),
            arrival: None,
        }
    }

    fn looks(changes: &[Change]) -> Option<Vec<(i64, String)>> {
        let looks = single(changes.to_vec()).looks()?;
        Some(looks.into_iter().map(|look| (look.lsn, look.title)).collect())
    }

    #[test]
    fn looks_are_what_was_different_in_between_and_the_newest() {
        let seen = looks(&[
            titled(10, "가"),
            titled(11, "나"),
            titled(12, "나"),
            titled(13, "가"),
        ]);
        assert_eq!(
            seen,
            Some(vec![(10, "가".into()), (12, "나".into()), (13, "가".into())])
        );
        let again = [
            titled(10, "가"),
            titled(11, "나"),
            titled(10, "가"),
            titled(11, "나"),
        ];
        assert_eq!(
            looks(&again),
            Some(vec![(10, "가".into()), (11, "나".into())]),
            "read again"
        );
    }

    #[test]
    fn a_row_that_is_gone_has_no_looks_and_the_next_has_its_own() {
        let one = |lsn| Some(vec![(lsn, "자전거".to_owned())]);
        assert_eq!(looks(&[create(10)]), one(10));
        assert_eq!(looks(&[create(10), upsert(11)]), one(11), "it looks as it did");
        assert_eq!(looks(&[titled(10, "가"), titled(11, "나"), delete(12)]), None);
        assert_eq!(looks(&[titled(10, "가"), delete(12), create(13)]), one(13));
        assert_eq!(
            looks(&[create(10), titled(11, "나")]),
            Some(vec![(10, "자전거".into()), (11, "나".into())])
        );
    }

    #[test]
    fn a_truncate_is_a_step_of_its_own() {
        let truncate = Event::Truncate {
            lsn: 15,
            times: CaptureTimes::default(),
        };
        let steps = plan([event(1, 0, upsert(10)), truncate, event(1, 1, upsert(20))]);
        assert!(matches!(
            steps[..],
            [Step::Posts(_), Step::Truncate { lsn: 15, .. }, Step::Posts(_)]
        ));
    }

    fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![(1i64..50).prop_map(upsert), (1i64..50).prop_map(delete)]
    }

    proptest! {
        #[test]
        fn the_newest_lsn_decides_whatever_the_order(changes in prop::collection::vec(any_change(), 1..20)) {
            let newest = changes.iter().map(|change| match change {
                Change::Upsert { lsn, .. } | Change::Delete { lsn, .. } => *lsn,
                Change::Move { .. } | Change::Tombstone => unreachable!("not generated"),
            }).max().unwrap();
            let newest_delete = changes.iter().filter_map(|change| match change {
                Change::Delete { lsn, .. } => Some(*lsn),
                _ => None,
            }).max();
            let plan = single(changes);
            prop_assert_eq!(plan.deleted().map(|deleted| deleted.lsn), newest_delete);
            prop_assert_eq!(plan.state.unwrap().lsn, newest);
        }

        #[test]
        fn each_post_occurs_once_in_a_plan(ids in prop::collection::vec(1i64..5, 0..40)) {
            let events = (0..).zip(&ids).map(|(offset, id)| {
                event(*id, offset, if offset % 3 == 0 { Change::Tombstone } else { upsert(offset) })
            });
            for plan in plan(events).into_iter().map(posts) {
                let mut seen: Vec<_> = plan.iter().map(|post| post.trade_post_id).collect();
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), plan.len());
            }
        }
    }
}
