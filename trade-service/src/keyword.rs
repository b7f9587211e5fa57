//! What a keyword is, and how what a member writes becomes one.
//!
//! No I/O. Invariant: what [`NewKeyword::keyword`] answers, the table's own constraints accept, and to write
//! the same word in another way gives the same keyword.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;

use crate::post::{self, Violation};

const LENGTH_MIN: usize = 2;
const LENGTH_MAX: usize = 30;
/// Most keywords of a member; the table has as many places.
pub const KEYWORDS_MAX: usize = 30;

/// A keyword as its member sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Keyword {
    #[schema(examples(7))]
    pub id: i64,
    /// In lower case.
    #[schema(examples("자전거"))]
    pub keyword: String,
    pub created_at: DateTime<Utc>,
}

/// What a member writes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKeyword {
    /// 2 to 30 characters without the space around them, none of them a control character. Upper and lower case
    /// are the same.
    #[schema(min_length = 2, examples("자전거"))]
    pub keyword: String,
}

impl NewKeyword {
    /// The keyword that this is, or why it is none.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn keyword(&self) -> Result<String, Vec<Violation>> {
        let keyword = folded(self.keyword.trim());
        let mut found = Vec::new();
        let length = keyword.chars().count();
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
            post::add(
                &mut found,
                "keyword",
                format!("must have {LENGTH_MIN} to {LENGTH_MAX} characters, got {length}"),
            );
        }
        if let Some(control) = keyword.chars().find(|c| c.is_control()) {
            let message = format!(
                "must not contain the control character U+{:04X}",
                u32::from(control)
            );
            post::add(&mut found, "keyword", message);
        }
        if found.is_empty() { Ok(keyword) } else { Err(found) }
    }
}

/// In lower case and composed, as searches and matches compare. Each character by itself: what a word ends with
/// does not depend on what comes behind it.
fn folded(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).nfc().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use utoipa::PartialSchema;

    use super::*;

    fn keyword(text: &str) -> Result<String, Vec<Violation>> {
        let keyword = text.to_owned();
        NewKeyword { keyword }.keyword()
    }

    #[test]
    fn the_same_word_is_the_same_keyword() {
        // The last one is written with single letters, as some systems name their files.
        for text in [
            "자전거",
            "  자전거\u{3000}",
            "\u{110c}\u{1161}\u{110c}\u{1165}\u{11ab}\u{1100}\u{1165}",
        ] {
            assert_eq!(keyword(text).as_deref(), Ok("자전거"));
        }
        assert_eq!(keyword("Road BIKE").as_deref(), Ok("road bike"));
    }

    #[test]
    fn what_is_no_keyword_says_the_limit_and_what_came() {
        let long = "가".repeat(31);
        for (text, message) in [
            ("", "must have 2 to 30 characters, got 0"),
            (" 가 ", "must have 2 to 30 characters, got 1"),
            (&long, "must have 2 to 30 characters, got 31"),
            ("가\0나", "must not contain the control character U+0000"),
            ("가\n나", "must not contain the control character U+000A"),
        ] {
            let found = keyword(text).unwrap_err();
            assert_eq!(
                (found[0].field.as_str(), found[0].message.as_str()),
                ("keyword", message)
            );
            assert_eq!(found.len(), 1);
        }
        assert_eq!(keyword("\0").unwrap_err().len(), 2, "everything is told at once");
        for text in [
            "가나",
            &"😀".repeat(30),
            "a\u{202e}b",
            "'; DROP TABLE keywords; --",
        ] {
            assert!(keyword(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_document_has_the_limit() {
        let schema = serde_json::to_value(NewKeyword::schema()).unwrap();
        assert_eq!(schema["properties"]["keyword"]["minLength"], LENGTH_MIN);
    }

    proptest! {
        #[test]
        fn a_keyword_is_its_own_keyword(text in "\\PC{0,40}") {
            if let Ok(once) = keyword(&text) {
                prop_assert!((LENGTH_MIN..=LENGTH_MAX).contains(&once.chars().count()));
                prop_assert_eq!(keyword(&once), Ok(once));
            }
        }

        #[test]
        fn case_makes_no_difference(text in "[a-zA-Z가-힣]{2,30}") {
            prop_assert_eq!(keyword(&text.to_uppercase()), keyword(&text.to_lowercase()));
        }
    }
}
