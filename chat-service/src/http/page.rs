//! Page sizes, cursors, and ids in paths and queries.
//!
//! Invariant: a cursor carries the list that gave it out, and only that list takes it.

use mongodb::bson::oid::ObjectId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use service_kit::{cursor, number};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use crate::store::{Edge, Window};

const DEFAULT: i64 = 20;
/// Most rows of a page.
pub const MAX: i64 = 100;

/// How a list is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// `next_cursor` or `previous_cursor` of a page of the same list.
    #[param(nullable = false)]
    cursor: Option<String>,
    #[serde(default, deserialize_with = "number::in_query::<_, 1, MAX>")]
    #[param(nullable = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Cursor<K> {
    list: String,
    edge: Edge<K>,
}

/// The page of a list that a request asks for.
#[derive(Debug)]
pub struct Asked<K> {
    list: String,
    pub edge: Option<Edge<K>>,
    limit: usize,
}

/// A page, and the cursors of the pages next to it; none where the list ends.
#[derive(Debug)]
pub struct Page<R> {
    pub items: Vec<R>,
    pub next_cursor: Option<String>,
    pub previous_cursor: Option<String>,
}

impl<K: Serialize + DeserializeOwned> Asked<K> {
    pub fn new(list: impl Into<String>, wanted: &Wanted) -> Result<Self, ApiError> {
        let list = list.into();
        let edge = wanted
            .cursor
            .as_deref()
            .map(|text| match cursor::decode::<Cursor<K>>(text) {
                Ok(cursor) if cursor.list == list => Ok(cursor.edge),
                _ => Err(ApiError::Field {
                    field: "cursor",
                    problem: "is not one that this list gave out".into(),
                }),
            })
            .transpose()?;
        let limit = usize::try_from(limit(wanted.limit)?).unwrap_or_default();
        Ok(Self { list, edge, limit })
    }

    /// How many rows to read: one more than the page shows tells whether the list goes on.
    pub fn rows(&self) -> i64 {
        i64::try_from(self.limit + 1).unwrap_or(i64::MAX)
    }

    /// The page made of up to [`Asked::rows`] rows, which were read away from the edge.
    pub fn page<R>(&self, mut rows: Vec<R>, key: impl Fn(&R) -> K) -> Page<R> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let backwards = matches!(self.edge, Some(Edge::Before(_)));
        if backwards {
            rows.reverse();
        }
        let (next, previous) = if backwards {
            (true, more)
        } else {
            (more, self.edge.is_some())
        };
        let cursor = |edge| {
            cursor::encode(&Cursor {
                list: self.list.clone(),
                edge,
            })
        };
        let last = rows.last().filter(|_| next);
        let first = rows.first().filter(|_| previous);
        Page {
            next_cursor: last.map(|row| cursor(Edge::After(key(row)))),
            previous_cursor: first.map(|row| cursor(Edge::Before(key(row)))),
            items: rows,
        }
    }
}

/// The page size asked for: 1 to 100, 20 if none is.
pub fn limit(asked: Option<i64>) -> Result<i64, ApiError> {
    match asked {
        None => Ok(DEFAULT),
        Some(limit @ 1..=MAX) => Ok(limit),
        Some(limit) => Err(ApiError::Field {
            field: "limit",
            problem: number::outside(1, MAX, limit),
        }),
    }
}

/// The id of a member.
pub fn member_id(id: i64) -> Result<i64, ApiError> {
    if id > 0 {
        return Ok(id);
    }
    Err(ApiError::Field {
        field: "member_id",
        problem: format!("must be positive, is {id}"),
    })
}

/// A page of a sequence.
pub fn window(before: Option<i64>, after: Option<i64>) -> Result<Window, ApiError> {
    for (field, asked) in [("before", before), ("after", after)] {
        if let Some(asked @ ..0) = asked {
            return Err(ApiError::Field {
                field,
                problem: format!("must not be negative, is {asked}"),
            });
        }
    }
    Ok(Window { before, after })
}

/// The body of requests that mark a sequence as read.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadUpTo {
    /// At most the last there is.
    #[schema(minimum = 0, examples(3))]
    up_to: i64,
}

impl ReadUpTo {
    /// A number that the sequence can have.
    pub fn seq(self) -> Result<i64, ApiError> {
        if self.up_to < 0 {
            return Err(ApiError::Field {
                field: "up_to",
                problem: format!("must not be negative, is {}", self.up_to),
            });
        }
        Ok(self.up_to)
    }

    /// The refusal of a number behind the sequence's `last`.
    pub fn beyond(self, last: i64) -> ApiError {
        ApiError::Field {
            field: "up_to",
            problem: format!("must be at most {last}, the last there is, is {}", self.up_to),
        }
    }
}

/// For the document; handlers take it out of the path by itself, as they take the others.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone")]
pub struct RoomId {
    #[param(pattern = "^[0-9a-fA-F]{24}$")]
    room_id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone")]
pub struct MemberId {
    #[param(minimum = 1)]
    member_id: i64,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone")]
pub struct TradePostId {
    trade_post_id: i64,
}

/// A room id; what cannot be one is the id of no room.
pub fn room_id(text: &str) -> Result<ObjectId, ApiError> {
    ObjectId::parse_str(text).map_err(|_| ApiError::NoRoom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(cursor: Option<&str>, limit: Option<i64>) -> Wanted {
        Wanted {
            cursor: cursor.map(str::to_owned),
            limit,
        }
    }

    /// What a store does: rows away from the edge, smaller numbers last.
    fn read(list: &[i64], asked: &Asked<i64>) -> Vec<i64> {
        let limit = usize::try_from(asked.rows()).unwrap();
        match asked.edge {
            None => list.iter().copied().take(limit).collect(),
            Some(Edge::After(key)) => list.iter().copied().filter(|n| *n < key).take(limit).collect(),
            Some(Edge::Before(key)) => list
                .iter()
                .copied()
                .rev()
                .filter(|n| *n > key)
                .take(limit)
                .collect(),
        }
    }

    proptest! {
        #[test]
        fn pages_show_every_row_once_on_the_way_there_and_on_the_way_back(
            rows in 0_i64..60, limit in 1_i64..20,
        ) {
            let list: Vec<i64> = (1..=rows).rev().collect();
            let page = |cursor: Option<&str>| {
                let asked = Asked::new("numbers", &wanted(cursor, Some(limit))).unwrap();
                asked.page(read(&list, &asked), |row| *row)
            };
            let mut there = vec![page(None)];
            while let Some(cursor) = &there.last().unwrap().next_cursor {
                there.push(page(Some(cursor)));
            }
            prop_assert!(there[0].previous_cursor.is_none());
            let seen: Vec<i64> = there.iter().flat_map(|page| page.items.clone()).collect();
            prop_assert_eq!(&seen, &list);
            let mut back = there.pop().unwrap();
            while let Some(earlier) = there.pop() {
                back = page(back.previous_cursor.as_deref());
                prop_assert_eq!(&back.items, &earlier.items);
                prop_assert!(back.next_cursor.is_some());
            }
            prop_assert!(back.previous_cursor.is_none());
        }
    }

    #[test]
    fn the_document_has_the_limits() {
        let parameters = serde_json::to_value(Wanted::into_params(|| None)).unwrap();
        assert_eq!(parameters[1]["schema"]["maximum"], MAX);
        assert_eq!(parameters[1]["schema"]["default"], DEFAULT);
    }

    #[test]
    fn a_cursor_is_good_for_its_list_alone() {
        let asked: Asked<i64> = Asked::new("numbers", &wanted(None, Some(1))).unwrap();
        let cursor = asked.page(vec![2, 1], |row| *row).next_cursor.unwrap();
        let of = |list: &str, cursor: &str| {
            Asked::<i64>::new(list, &wanted(Some(cursor), None)).map(|asked| asked.edge)
        };
        assert_eq!(of("numbers", &cursor).unwrap(), Some(Edge::After(2)));
        for (list, cursor) in [
            ("letters", cursor.as_str()),
            ("numbers", ""),
            ("numbers", "?"),
            ("numbers", &cursor[1..]),
            ("numbers", &cursor::encode(&2)),
        ] {
            let refused = of(list, cursor).unwrap_err().to_string();
            assert_eq!(refused, "field cursor is not one that this list gave out");
        }
    }
}
