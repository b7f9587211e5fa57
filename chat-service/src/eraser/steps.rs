//! What to erase next, in steps of bounded size.
//!
//! Invariant: a room goes after all of its messages, and no step erases more than a chunk.

use std::collections::HashMap;

use mongodb::bson::oid::ObjectId;

use crate::{
    room::DeletionId,
    store::{deletions::UnderWay, leases::ClosedRoom},
};

/// One step. Messages and rooms count alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Some of a room's messages: those with sequences from `from` to before `to`.
    Part {
        deletion: DeletionId,
        room: ObjectId,
        from: i64,
        to: i64,
    },
    Whole(Whole),
}

/// Rooms to erase with all that is left in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    pub rooms: Vec<ClosedRoom>,
    /// Those that still have messages.
    pub with_messages: Vec<ObjectId>,
    documents: i64,
}

impl Step {
    /// How many documents it erases.
    pub fn documents(&self) -> i64 {
        match self {
            Self::Part { from, to, .. } => to - from,
            Self::Whole(whole) => whole.documents,
        }
    }
}

/// Divides what is in `rooms` into steps of at most `chunk` documents, a `quota` of documents in all or little
/// more. `under_way` tells of rooms of which a part is erased.
///
/// The rooms are closed, so what they hold is known by their sequence.
pub fn steps(
    rooms: &[ClosedRoom],
    under_way: &HashMap<DeletionId, UnderWay>,
    chunk: i64,
    quota: i64,
) -> Vec<Step> {
    let mut plan = Plan::default();
    for room in rooms {
        if plan.documents >= quota {
            break;
        }
        // A room goes with its last messages if they fit into one step, else behind them.
        if room.messages() < chunk {
            plan.room(*room, room.messages(), chunk);
            continue;
        }
        let part = under_way.get(&room.closed_by);
        let part = part.filter(|part| part.room_id == room.id);
        let mut from = part.map_or(0, |part| part.up_to) + 1;
        while from < room.next_seq && plan.documents < quota {
            let to = (from + chunk).min(room.next_seq);
            plan.part(*room, from, to);
            from = to;
        }
        if from == room.next_seq {
            plan.room(*room, 0, chunk);
        }
    }
    plan.end()
}

#[derive(Default)]
struct Plan {
    steps: Vec<Step>,
    /// In `steps` and gathered.
    documents: i64,
    gathered: Whole,
}

impl Plan {
    fn part(&mut self, room: ClosedRoom, from: i64, to: i64) {
        self.documents += to - from;
        self.steps.push(Step::Part {
            deletion: room.closed_by,
            room: room.id,
            from,
            to,
        });
    }

    fn room(&mut self, room: ClosedRoom, messages: i64, chunk: i64) {
        if self.gathered.documents + messages + 1 > chunk {
            self.take_gathered();
        }
        self.documents += messages + 1;
        self.gathered.documents += messages + 1;
        self.gathered.rooms.push(room);
        if messages > 0 {
            self.gathered.with_messages.push(room.id);
        }
    }

    fn take_gathered(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.documents > 0 {
            self.steps.push(Step::Whole(gathered));
        }
    }

    fn end(mut self) -> Vec<Step> {
        self.take_gathered();
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn rooms(sizes: &[i64]) -> Vec<ClosedRoom> {
        let closed_by = DeletionId { post: 1, lsn: 1 };
        let room = |size: &i64| ClosedRoom {
            id: ObjectId::new(),
            closed_by,
            next_seq: size + 1,
        };
        sizes.iter().map(room).collect()
    }

    proptest! {
        /// Turn after turn, as the eraser does it, with what is left and under way read anew each time.
        #[test]
        fn every_message_and_room_is_erased_once_in_turns_and_steps_of_bounded_size(
            sizes in prop::collection::vec(0i64..60, 0..20),
            chunk in 1i64..20,
            quota in 1i64..100,
        ) {
            let mut left = rooms(&sizes);
            let mut under_way = HashMap::new();
            let mut erased_up_to: BTreeMap<ObjectId, i64> = BTreeMap::new();
            while !left.is_empty() {
                let steps = steps(&left, &under_way, chunk, quota);
                let planned: i64 = steps.iter().map(Step::documents).sum();
                prop_assert!((1..quota + 2 * chunk).contains(&planned), "{planned} documents in a turn");
                for step in steps {
                    prop_assert!((1..=chunk).contains(&step.documents()), "{step:?}");
                    match step {
                        Step::Part { deletion, room, from, to } => {
                            let up_to = erased_up_to.entry(room).or_default();
                            prop_assert_eq!(*up_to + 1, from, "no gap, and nothing twice");
                            *up_to = to - 1;
                            under_way.insert(deletion, UnderWay { room_id: room, up_to: to - 1 });
                        }
                        Step::Whole(Whole { rooms, with_messages, .. }) => {
                            for room in rooms {
                                let up_to = erased_up_to.get(&room.id).copied().unwrap_or_default();
                                let whole = with_messages.contains(&room.id);
                                prop_assert_eq!(if whole { 0 } else { room.messages() }, up_to);
                                let before = left.len();
                                left.retain(|left| left.id != room.id);
                                prop_assert_eq!(left.len() + 1, before, "a room goes once");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_turn_plans_no_more_than_it_will_do() {
        let steps = steps(&rooms(&[1_000_000_000]), &HashMap::new(), 1, 8);
        assert_eq!(steps.len(), 8);
    }
}
