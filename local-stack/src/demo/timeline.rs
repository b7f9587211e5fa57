//! When each stage of a delete was reached, and how that is shown. Pure: no clock, no I/O.
//!
//! All times are milliseconds after the delete was sent. A stage that many posts, rooms or members
//! reach is dated by the last of them.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

/// What one delete was, and its way through the system.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub(super) delete: String,
    pub(super) posts: usize,
    pub(super) rooms: usize,
    pub(super) messages: usize,
    pub(super) stages: Stages,
}

/// None where there was nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stages {
    /// The service or PostgreSQL has answered the delete.
    pub(super) answered: Option<f64>,
    /// Debezium has read the change.
    pub(super) captured: Option<f64>,
    /// chat-service has closed the rooms.
    pub(super) closed: Option<f64>,
    /// The members have read it from their event streams.
    pub(super) told: Option<f64>,
    /// The messages and rooms are gone.
    pub(super) erased: Option<f64>,
}

impl Stages {
    fn each(&self) -> [Option<f64>; 5] {
        [self.answered, self.captured, self.closed, self.told, self.erased]
    }

    /// The time between the answer and the members' knowledge.
    pub(super) fn answered_to_told(&self) -> Option<f64> {
        Some(self.told? - self.answered?)
    }

    /// The quantile of every stage.
    pub(super) fn quantile(of: &[Self], quantile: f64) -> Self {
        let stage = |pick: fn(&Self) -> Option<f64>| {
            let times: Vec<f64> = of.iter().filter_map(pick).collect();
            self::quantile(&times, quantile)
        };
        Self {
            answered: stage(|stages| stages.answered),
            captured: stage(|stages| stages.captured),
            closed: stage(|stages| stages.closed),
            told: stage(|stages| stages.told),
            erased: stage(|stages| stages.erased),
        }
    }
}

/// The smallest value that at least that share of the values does not exceed.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among a few values"
)]
pub(super) fn quantile(values: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A table with a line for each of `timelines`.
pub(super) fn table(timelines: &[Timeline]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "delete", "posts", "rooms", "messages", "answered", "captured", "closed", "told", "erased",
    ]);
    for timeline in timelines {
        let counts = [timeline.posts, timeline.rooms, timeline.messages];
        let mut row = vec![timeline.delete.clone()];
        row.extend(counts.iter().map(ToString::to_string));
        row.extend(timeline.stages.each().map(shown));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn shown(time: Option<f64>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| format!("{time:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(answered: f64, told: f64) -> Stages {
        Stages {
            answered: Some(answered),
            told: Some(told),
            ..Stages::default()
        }
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&values, 0.5), Some(3.0));
        assert_eq!(quantile(&values[..4], 0.5), Some(2.0));
        assert_eq!(quantile(&values, 1.0), Some(5.0));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn each_stage_has_its_own_quantile() {
        let all = [stages(2.0, 30.0), stages(3.0, 20.0), stages(9.0, 25.0)];
        assert_eq!(Stages::quantile(&all, 0.5), stages(3.0, 25.0));
        assert_eq!(all[0].answered_to_told(), Some(28.0));
        assert_eq!(Stages::default().answered_to_told(), None);
    }

    #[test]
    fn the_table_has_a_dash_where_nothing_was_to_do() {
        let text = table(&[Timeline {
            delete: "a post without chats".to_owned(),
            posts: 1,
            rooms: 0,
            messages: 0,
            stages: Stages {
                answered: Some(3.4),
                ..Stages::default()
            },
        }]);
        let line = text.lines().find(|line| line.contains("without chats")).unwrap();
        let cells: Vec<&str> = line.trim_matches('│').split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "a", "post", "without", "chats", "1", "0", "0", "3", "–", "–", "–", "–"
            ]
        );
    }
}
