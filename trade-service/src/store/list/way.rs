//! How a list is read: along an index in the order of the list, or by collecting what one filter leaves.
//!
//! No I/O. Invariant: however a list's filters and the posts are, it is decided within a fixed number of
//! rows: [`WALK`] + [`COLLECT`] for each filter + [`FAR`].
//!
//! Walking is right for filters that many posts pass, because it ends with the first page of them;
//! collecting is right for those that few pass, because it ends with the last of them. Which of both a
//! filter is depends on its value and on the place in the list. So the first rows are walked, and how
//! many of them pass says what is to be expected.

use super::{Filter, Sort};

/// Rows that are walked to see how many pass.
const FIRST: i64 = 300;
/// Rows that are walked, if they promise a page, before anything is collected.
const WALK: i64 = 5_000;
/// Most rows that are collected by one filter; what leaves more is walked.
pub(super) const COLLECT: i64 = 10_000;
/// Rows that are walked where nothing else is left.
const FAR: i64 = 50_000;

/// A filter that an index knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
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
    /// Look at all rows that pass this filter, if they are not too many.
    Collect(By),
    /// Answer what was found, and where it ended.
    Stop,
}

/// Which filters the walk's index leaves to be checked, those of which most is to be expected first.
#[derive(Debug)]
pub(super) struct Way {
    /// The filter by which the walk's index begins.
    pub(super) leading: Option<By>,
    pub(super) checked: Vec<By>,
    wanted: i64,
    walked: i64,
    found: i64,
    collected: usize,
}

impl Way {
    pub(super) fn new(filter: &Filter, sort: Sort, wanted: i64) -> Self {
        let by_price = sort != Sort::Newest;
        let leading = [
            (By::Seller, filter.seller_id.is_some() && !by_price),
            (By::Category, filter.category.is_some()),
            (By::Status, filter.status.is_some()),
        ];
        let leading = leading.into_iter().find_map(|(by, is)| is.then_some(by));
        let checked = [
            (By::Seller, filter.seller_id.is_some()),
            (By::Text, filter.text.is_some()),
            (By::Price, filter.has_price() && !by_price),
            (By::Category, filter.category.is_some()),
            (By::Status, filter.status.is_some()),
        ];
        let checked = checked.into_iter().filter(|(_, is)| *is).map(|(by, _)| by);
        Self {
            leading,
            checked: checked.filter(|by| Some(*by) != leading).collect(),
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
        // Few posts are one seller's.
        if self.collected == 0 && self.checked[0] == By::Seller {
            return Step::Collect(By::Seller);
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
            Some(by) => Step::Collect(*by),
            None if self.walked < FAR => Step::Walk(FAR - self.walked),
            None => Step::Stop,
        }
    }

    pub(super) fn walked(&mut self, rows: i64, found: i64) {
        self.walked += rows;
        self.found += found;
    }

    /// What it leaves was too much.
    pub(super) fn not_collected(&mut self) {
        self.collected += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::post::Status;

    fn filter(text: bool, category: bool, status: bool, seller: bool, price: bool) -> Filter {
        Filter {
            text: text.then(|| "책상".to_owned()),
            category: category.then(|| "가구".to_owned()),
            status: status.then_some(Status::Sold),
            seller_id: seller.then_some(7),
            min_price: price.then_some(1),
            max_price: None,
        }
    }

    fn search() -> Way {
        Way::new(&filter(true, false, false, false, false), Sort::Newest, 21)
    }

    #[test]
    fn a_list_that_an_index_answers_is_read_along_it() {
        for (filter, sort, leading) in [
            (filter(false, false, false, false, false), Sort::Newest, None),
            (
                filter(false, true, false, false, false),
                Sort::Newest,
                Some(By::Category),
            ),
            (
                filter(false, false, true, false, true),
                Sort::PriceAsc,
                Some(By::Status),
            ),
            (
                filter(false, true, false, false, true),
                Sort::PriceDesc,
                Some(By::Category),
            ),
            (
                filter(false, false, false, true, false),
                Sort::Newest,
                Some(By::Seller),
            ),
        ] {
            let way = Way::new(&filter, sort, 21);
            assert_eq!((way.leading, way.next()), (leading, Step::Walk(21)), "{filter:?}");
        }
    }

    #[test]
    fn what_a_seller_has_is_collected_where_no_index_has_its_order() {
        let way = Way::new(&filter(true, true, false, true, false), Sort::PriceAsc, 21);
        assert_eq!(way.next(), Step::Collect(By::Seller));
    }

    #[test]
    fn a_frequent_word_is_walked_on_for_and_a_rare_one_collected() {
        let mut way = search();
        assert_eq!(way.next(), Step::Walk(300));
        way.walked(300, 10);
        assert_eq!(way.next(), Step::Walk(960), "630 rows are expected to hold 21");

        let mut way = search();
        way.walked(300, 1);
        assert_eq!(way.next(), Step::Collect(By::Text));
        way.not_collected();
        assert_eq!(way.next(), Step::Walk(49_700));
        way.walked(49_700, 3);
        assert_eq!(way.next(), Step::Stop);
    }

    proptest! {
        #[test]
        fn every_list_ends_within_the_bound(
            text: bool, category: bool, status: bool, seller: bool, price: bool,
            sort in prop::sample::select(vec![Sort::Newest, Sort::PriceAsc, Sort::PriceDesc]),
            wanted in 2..=101_i64, shares in prop::collection::vec(0..=100_i64, 1..9),
        ) {
            let filter = filter(text, category, status, seller, price);
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
                    Step::Collect(by) => {
                        prop_assert!(way.checked.contains(&by));
                        rows += COLLECT;
                        way.not_collected();
                    }
                }
            }
            prop_assert!(rows <= WALK.max(FAR) + 5 * COLLECT);
        }
    }
}
