//! How a list is read: along an index in the order of the list, or by collecting what one filter leaves.
//!
//! No I/O. Invariant: however a list's filters and the posts are, a page of it takes a fixed number of rows at
//! most: [`FAR`] walked, [`COLLECT`] for each filter, and once [`COLLECT_MANY`].
//!
//! Walking is right for filters that many posts pass, because it ends with the first page of them;
//! collecting is right for those that few pass, because it ends with the last of them. Which of both a
//! filter is depends on its value and on the place in the list. So the first rows are walked, and how
//! many of them pass says what is to be expected.

use super::{Filter, Sort};

/// Rows that are walked to see how many pass. Of fewer, a word that one in 200 posts has is often taken for one
/// that is rare, and collecting its 5,000 posts costs several times what walking does.
const FIRST: i64 = 1_500;
/// Rows that are walked, if they promise a page, before anything is collected.
const WALK: i64 = 10_000;
/// Most rows that are collected by one filter; what leaves more is walked.
const COLLECT: i64 = 10_000;
/// Rows that are walked where every filter leaves more.
const FAR: i64 = 20_000;
/// Most rows that are collected at last, as for a word of another season: there are many, and none near.
const COLLECT_MANY: i64 = 100_000;

/// A filter that an index knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Buyer,
    Seller,
    Text,
    Price,
    Category,
    Status,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Look at so many rows more, in the order of the list.
    Walk(i64),
    /// Look at all rows that pass this filter, if they are less than so many.
    Collect(By, i64),
    /// Answer what was found, and where it ended.
    Stop,
}

/// How one list is read.
#[derive(Debug)]
pub(super) struct Way {
    /// The filter by which the walk's index begins.
    pub(super) leading: Option<By>,
    /// Filters that the walk's index answers, and those that it leaves to be checked.
    pub(super) indexed: Vec<By>,
    pub(super) checked: Vec<By>,
    wanted: i64,
    walked: i64,
    found: i64,
    collected: usize,
}

impl Way {
    pub(super) fn new(filter: &Filter, sort: Sort, wanted: i64) -> Self {
        let leads = |by: &By| matches!(by, By::Buyer | By::Seller | By::Category | By::Status);
        // The order by popularity is another table's.
        let leading = filter.all().find(leads).filter(|_| sort != Sort::Popular);
        // An index in the order of prices knows where the range begins and ends.
        let in_order = |by: By| by == By::Price && matches!(sort, Sort::PriceAsc | Sort::PriceDesc);
        let (indexed, checked) = filter.all().partition(|by| Some(*by) == leading || in_order(*by));
        Self {
            leading,
            indexed,
            checked,
            wanted,
            walked: 0,
            found: 0,
            collected: 0,
        }
    }

    pub(super) fn next(&self) -> Step {
        if self.checked.is_empty() {
            return Step::Walk(self.wanted);
        }
        if self.walked == 0 {
            return Step::Walk(FIRST);
        }
        let expected = (self.walked * self.wanted).checked_div(self.found);
        if let Some(expected) = expected.filter(|rows| *rows <= WALK && self.walked < WALK) {
            // Twice of it, for what is not spread evenly.
            return Step::Walk((2 * expected).min(WALK).max(self.walked + FIRST) - self.walked);
        }
        match self.checked.get(self.collected) {
            Some(by) => Step::Collect(*by, COLLECT),
            None if self.walked < FAR => Step::Walk(FAR - self.walked),
            None if self.collected == self.checked.len() => Step::Collect(self.checked[0], COLLECT_MANY),
            None => Step::Stop,
        }
    }

    /// Whether some rows were walked, behind which another page can begin.
    pub(super) fn is_begun(&self) -> bool {
        self.walked > 0
    }

    pub(super) fn walked(&mut self, rows: i64, found: i64) {
        self.walked += rows;
        self.found += found;
    }

    /// What it leaves was too much, or took too long.
    pub(super) fn not_collected(&mut self) {
        self.collected += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::status::Status;

    const EVERY: &[By] = &[
        By::Buyer,
        By::Seller,
        By::Text,
        By::Price,
        By::Category,
        By::Status,
    ];

    fn filter(by: &[By]) -> Filter {
        let by = |wanted: By| by.contains(&wanted);
        Filter {
            text: by(By::Text).then(|| "책상".to_owned()),
            category: by(By::Category).then(|| "가구".to_owned()),
            status: by(By::Status).then_some(Status::Sold),
            seller_id: by(By::Seller).then_some(7),
            buyer_id: by(By::Buyer).then_some(8),
            min_price: by(By::Price).then_some(1),
            max_price: None,
        }
    }

    fn search() -> Way {
        Way::new(&filter(&[By::Text]), Sort::Newest, 21)
    }

    #[test]
    fn a_list_that_an_index_answers_is_read_along_it() {
        for (filter, sort, leading) in [
            (filter(&[]), Sort::Newest, None),
            (filter(&[By::Category]), Sort::Newest, Some(By::Category)),
            (filter(&[By::Status, By::Price]), Sort::PriceAsc, Some(By::Status)),
            (
                filter(&[By::Category, By::Price]),
                Sort::PriceDesc,
                Some(By::Category),
            ),
            (filter(&[By::Seller]), Sort::PriceAsc, Some(By::Seller)),
        ] {
            let way = Way::new(&filter, sort, 21);
            assert_eq!((way.leading, way.next()), (leading, Step::Walk(21)), "{filter:?}");
        }
    }

    #[test]
    fn a_frequent_word_is_walked_on_for_and_a_rare_one_collected() {
        let mut way = search();
        assert_eq!(way.next(), Step::Walk(1_500));
        way.walked(1_500, 10);
        assert_eq!(
            way.next(),
            Step::Walk(4_800),
            "3,150 rows are expected to hold 21"
        );

        let mut way = search();
        way.walked(1_500, 1);
        assert_eq!(way.next(), Step::Collect(By::Text, 10_000));
        way.not_collected();
        assert_eq!(way.next(), Step::Walk(18_500));
        way.walked(18_500, 3);
        assert_eq!(way.next(), Step::Collect(By::Text, 100_000));
        way.not_collected();
        assert_eq!(way.next(), Step::Stop);
    }

    proptest! {
        #[test]
        fn every_list_ends_within_the_bound(
            by in prop::sample::subsequence(EVERY, 0..=EVERY.len()),
            sort in prop::sample::select(vec![Sort::Newest, Sort::PriceAsc, Sort::PriceDesc, Sort::Popular]),
            wanted in 2..=101_i64, shares in prop::collection::vec(0..=100_i64, 1..9),
        ) {
            let filter = filter(&by);
            let mut way = Way::new(&filter, sort, wanted);
            let (mut rows, mut found) = (0, 0);
            for step in 0.. {
                prop_assert!(step < 60, "{way:?}");
                match way.next() {
                    Step::Stop => break,
                    Step::Walk(more) => {
                        prop_assert!(more > 0);
                        rows += more;
                        // The list has no end, and no share of it fills the page.
                        let pass = (more * shares[step % shares.len()] / 100).min(wanted - 1 - found);
                        found += pass;
                        way.walked(more, pass);
                        if way.checked.is_empty() {
                            break;
                        }
                    }
                    Step::Collect(by, most) => {
                        prop_assert!(way.checked.contains(&by));
                        rows += most;
                        way.not_collected();
                    }
                }
            }
            prop_assert!(rows <= FAR + 6 * COLLECT + COLLECT_MANY);
        }
    }
}
