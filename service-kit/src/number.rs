//! Whole numbers between limits, as clients write them.
//!
//! No I/O. Invariant: a number that no `i64` holds is told its limits like any other that is outside of them.

use std::fmt::Display;
use std::num::IntErrorKind;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::extract::without_position;

/// Most characters of a number that an answer repeats.
const SHOWN: usize = 40;

/// The message for what is not from `min` to `max`.
pub fn outside(min: i64, max: i64, came: impl Display) -> String {
    format!("must be {min} to {max}, got {came}")
}

/// Of a body.
///
/// # Errors
/// If it is no whole number, or none that an `i64` holds. Which are outside of the limits is for the caller to say.
pub fn in_json<'de, D, T, const MIN: i64, const MAX: i64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: From<i64>,
{
    // As it was written: serde_json reads a long number as a float, and one that is longer yet not at all.
    let written = Box::<RawValue>::deserialize(deserializer)?;
    let written = written.get();
    serde_json::from_str(written).map(i64::into).map_err(|error| {
        if is_long(written) {
            return D::Error::custom(outside(MIN, MAX, shown(written)));
        }
        // The position is not that in the body.
        D::Error::custom(without_position(&error.to_string()))
    })
}

/// Of a query.
///
/// # Errors
/// As [`in_json`].
pub fn in_query<'de, D, const MIN: i64, const MAX: i64>(deserializer: D) -> Result<Option<i64>, D::Error>
where
    D: Deserializer<'de>,
{
    let written = String::deserialize(deserializer)?;
    written
        .parse()
        .map(Some)
        .map_err(|error: std::num::ParseIntError| {
            D::Error::custom(match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => outside(MIN, MAX, shown(&written)),
                _ => format!(
                    "must be a whole number from {MIN} to {MAX}, got {:?}",
                    shown(&written)
                ),
            })
        })
}

/// Whether that JSON is a number beyond those that an `i64` may be.
fn is_long(json: &str) -> bool {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    json.parse::<f64>().is_ok_and(|number| number.abs() >= BEYOND)
}

fn shown(number: &str) -> String {
    match number.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &number[..end]),
        None => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Body {
        #[serde(deserialize_with = "in_json::<_, _, 1, 9>")]
        n: i64,
    }

    fn json(number: &str) -> Result<i64, String> {
        let body = serde_json::from_str::<Body>(&format!("{{\"n\": {number}}}"));
        let message = |e: serde_json::Error| e.to_string().split(" at line ").next().unwrap().to_owned();
        body.map(|body| body.n).map_err(message)
    }

    #[test]
    fn a_number_that_is_too_long_is_told_the_limits() {
        for long in [
            "9223372036854775808",
            "-9223372036854775809",
            "10000000000000000000",
            "99999999999999999999",
            "1e400",
            "-1E400",
            "1e20",
        ] {
            assert_eq!(json(long), Err(format!("must be 1 to 9, got {long}")));
        }
        let digits = "7".repeat(41);
        assert_eq!(
            json(&digits),
            Err(format!("must be 1 to 9, got {}…", &digits[..40]))
        );
        // Which are outside of the limits is not decided here.
        for short in [i64::MIN, -1, 0, 10, i64::MAX] {
            assert_eq!(json(&short.to_string()), Ok(short));
        }
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Query {
        #[serde(default, deserialize_with = "in_query::<_, 1, 9>")]
        n: Option<i64>,
    }

    fn query(query: &str) -> Result<Option<i64>, String> {
        let query = serde_urlencoded::from_str::<Query>(query);
        query.map(|query| query.n).map_err(|error| error.to_string())
    }

    #[test]
    fn a_query_is_told_the_limits_whatever_it_has() {
        assert_eq!(query(""), Ok(None));
        assert_eq!(query("n=-3"), Ok(Some(-3)));
        for other in ["many", "", "1.5", "1e400", "3 ", "+"] {
            let says = format!("must be a whole number from 1 to 9, got {other:?}");
            assert_eq!(query(&format!("n={}", other.replace('+', "%2B"))), Err(says));
        }
        let long = "9".repeat(60);
        assert_eq!(
            query(&format!("n={long}")),
            Err(format!("must be 1 to 9, got {}…", &long[..40]))
        );
    }

    #[test]
    fn what_is_no_whole_number_is_said_to_be_none() {
        for (other, says) in [
            ("1.5", "floating point `1.5`"),
            ("\"1e400\"", "string \"1e400\""),
            ("null", "null"),
            ("[1]", "sequence"),
        ] {
            assert_eq!(json(other), Err(format!("invalid type: {says}, expected i64")));
        }
    }
}
