//! The states of a post, and the one place that says which may follow which.
//!
//! ```text
//!            choose a buyer            complete
//!   on_sale ───────────────► reserved ─────────► sold
//!      ▲                      │  ▲ │               │
//!      │                      │  └─┘ another buyer │
//!      └──────────────────────┴────────────────────┘
//!                        reopen
//! ```
//!
//! No I/O. Invariant: a step that ends where the post is already, is open, so that repeating a request does
//! no harm; nothing but choosing a buyer leads to `reserved`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Status {
    OnSale,
    Reserved,
    Sold,
}

/// What a seller does with a post's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first, or another one.
    ChooseBuyer,
    /// Says that the post is reserved, and does not say for whom.
    StayReserved,
    Complete,
    /// Also forgets the buyer.
    Reopen,
}

impl Step {
    /// What a change of the field `status` asks for.
    pub fn to(status: Status) -> Self {
        match status {
            Status::OnSale => Self::Reopen,
            Status::Reserved => Self::StayReserved,
            Status::Sold => Self::Complete,
        }
    }

    /// The states that it may be taken in.
    pub fn open_in(self) -> Vec<Status> {
        let all = Status::ALL.into_iter();
        all.filter(|status| status.after(self).is_some()).collect()
    }
}

impl Status {
    pub const ALL: [Self; 3] = [Self::OnSale, Self::Reserved, Self::Sold];

    /// Where the step leads, `None` if it may not be taken here.
    pub fn after(self, step: Step) -> Option<Self> {
        match (step, self) {
            (Step::ChooseBuyer, Self::OnSale | Self::Reserved) | (Step::StayReserved, Self::Reserved) => {
                Some(Self::Reserved)
            }
            (Step::Complete, Self::Reserved | Self::Sold) => Some(Self::Sold),
            (Step::Reopen, _) => Some(Self::OnSale),
            (Step::ChooseBuyer, Self::Sold)
            | (Step::StayReserved, Self::OnSale | Self::Sold)
            | (Step::Complete, Self::OnSale) => None,
        }
    }

    /// As it is written in JSON and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnSale => "on_sale",
            Self::Reserved => "reserved",
            Self::Sold => "sold",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step() -> impl Strategy<Value = Step> {
        prop::sample::select(vec![
            Step::ChooseBuyer,
            Step::StayReserved,
            Step::Complete,
            Step::Reopen,
        ])
    }

    #[test]
    fn names_are_those_of_json() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
    }

    proptest! {
        #[test]
        fn whatever_a_seller_tries_a_post_is_only_ever_sold_to_a_buyer(
            steps in prop::collection::vec((step(), 1..9_i64), 0..40),
        ) {
            // What the table holds, as the statements that carry the steps out change it.
            let (mut status, mut buyer) = (Status::OnSale, None);
            for (step, member) in steps {
                prop_assert_eq!(step.open_in().contains(&status), status.after(step).is_some());
                let Some(next) = status.after(step) else { continue };
                let before = (status, buyer);
                status = next;
                match step {
                    Step::ChooseBuyer => buyer = Some(member),
                    Step::Reopen => buyer = None,
                    Step::StayReserved | Step::Complete => prop_assert_eq!(buyer, before.1),
                }
                prop_assert_eq!(buyer.is_some(), status != Status::OnSale);
                prop_assert_eq!(status == Status::Sold && before.0 == Status::OnSale, false);
                prop_assert_eq!(status.after(Step::to(status)), Some(status), "repeating does no harm");
            }
        }
    }
}
