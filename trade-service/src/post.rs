//! What a trade post is, and what a member may write into one.
//!
//! No I/O. Invariant: what [`NewPost::violations`] and [`Changes::violations`] let pass, the table's
//! own constraints accept.

mod image_url;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use service_kit::number;
use unicode_normalization::{UnicodeNormalization, is_nfc};
use utoipa::ToSchema;

use self::image_url::ImageUrl;
use crate::status::{Status, Step};

const TITLE_MAX: usize = 100;
const BODY_MAX: usize = 10_000;
const CATEGORY_MAX: usize = 50;
const IMAGES_MAX: usize = 10;
/// In won.
pub const PRICE_MAX: i64 = 10_000_000_000;
/// As many views make a post as popular as one favourite does; `post_counters.popularity` has it, too.
const FAVORITE_WEIGHT: i64 = 10;

/// A trade post as everybody may see it.
#[derive(Debug, Clone, Serialize, ToSchema, sqlx::FromRow)]
#[schema(as = TradePost)]
pub struct Post {
    #[schema(examples(42))]
    pub id: i64,
    #[schema(examples(101))]
    pub seller_id: i64,
    #[schema(required)]
    pub buyer_id: Option<i64>,
    #[schema(examples("자전거 팔아요"))]
    pub title: String,
    #[schema(examples("거의 새것입니다"))]
    pub body: String,
    /// In won.
    #[schema(examples(150_000))]
    pub price: i64,
    #[schema(examples("sports"))]
    pub category: String,
    pub status: Status,
    #[schema(examples("https://images.example/42.jpg"))]
    pub image_urls: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// How often others than the seller have looked at it, up to a moment ago.
    #[schema(examples(27))]
    pub views: i64,
    /// How many members keep it as a favourite.
    #[schema(examples(3))]
    pub favorites: i64,
    /// Differs after every write of the row, whoever wrote it; sent as `ETag`.
    #[serde(skip)]
    pub version: String,
}

impl Post {
    /// What the list is ordered by when it is ordered by popularity.
    pub fn popularity(&self) -> i64 {
        self.views + FAVORITE_WEIGHT * self.favorites
    }
}

/// What a seller writes; everything else about a new post the service decides. Texts are kept composed, in Unicode's
/// form NFC, and so are their characters counted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTradePost)]
pub struct NewPost {
    /// Not blank.
    #[serde(deserialize_with = "composed")]
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$",
        examples("자전거 팔아요")
    )]
    pub title: String,
    #[serde(deserialize_with = "composed")]
    #[schema(max_length = 10_000, pattern = "^[^\\u0000]*$", examples("거의 새것입니다"))]
    pub body: String,
    /// In won.
    #[serde(deserialize_with = "number::in_json::<_, _, 0, PRICE_MAX>")]
    #[schema(minimum = 0, maximum = 10_000_000_000_i64, examples(150_000))]
    pub price: i64,
    #[serde(deserialize_with = "composed")]
    #[schema(
        min_length = 1,
        max_length = 50,
        pattern = "^[^\\u0000]*$",
        examples("sports")
    )]
    pub category: String,
    #[serde(default)]
    #[schema(value_type = Vec<ImageUrl>, max_items = 10)]
    pub image_urls: Vec<String>,
}

/// The fields to change, in the manner of a JSON merge patch. No field of a post can be removed, so
/// `null` is refused.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TradePostChanges, min_properties = 1)]
pub struct Changes {
    /// Not blank.
    #[serde(default, deserialize_with = "composed_if_present")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100,
        pattern = "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"
    )]
    pub title: Option<String>,
    #[serde(default, deserialize_with = "composed_if_present")]
    #[schema(nullable = false, max_length = 10_000, pattern = "^[^\\u0000]*$")]
    pub body: Option<String>,
    /// In won.
    #[serde(default, deserialize_with = "number::in_json::<_, _, 0, PRICE_MAX>")]
    #[schema(nullable = false, minimum = 0, maximum = 10_000_000_000_i64)]
    pub price: Option<i64>,
    #[serde(default, deserialize_with = "composed_if_present")]
    #[schema(nullable = false, min_length = 1, max_length = 50, pattern = "^[^\\u0000]*$")]
    pub category: Option<String>,
    /// `sold` completes the sale to the buyer who was chosen, `on_sale` reopens it and forgets them.
    /// `reserved` is what choosing a buyer leads to, and may only be repeated here.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub status: Option<Status>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<ImageUrl>>, nullable = false, max_items = 10)]
    pub image_urls: Option<Vec<String>>,
}

/// Who gets the post.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Buyer {
    /// Not the seller.
    #[schema(minimum = 1, examples(202))]
    pub buyer_id: i64,
}

impl Buyer {
    /// Empty if there may be such a member.
    pub fn violations(self) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.buyer_id < 1 {
            add(
                &mut found,
                "buyer_id",
                format!("must be at least 1, got {}", self.buyer_id),
            );
        }
        found
    }
}

fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A text that means the same is the same text, however it was typed, so that one who searches finds it.
fn composed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(if is_nfc(&text) { text } else { text.nfc().collect() })
}

/// Also for what the list is searched for.
pub(crate) fn composed_if_present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    composed(deserializer).map(Some)
}

/// A field that breaks a rule: which, what the limit is and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub field: String,
    pub message: String,
}

impl NewPost {
    /// Empty if the post may be stored.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        title(&mut found, &self.title);
        body(&mut found, &self.body);
        price(&mut found, "price", self.price);
        category(&mut found, &self.category);
        image_urls(&mut found, &self.image_urls);
        found
    }
}

impl Changes {
    /// The step that the change of `status` is.
    pub fn step(&self) -> Option<Step> {
        self.status.map(Step::to)
    }

    /// Empty if the changes may be stored.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        if let Some(value) = &self.title {
            title(&mut found, value);
        }
        if let Some(value) = &self.body {
            body(&mut found, value);
        }
        if let Some(value) = self.price {
            price(&mut found, "price", value);
        }
        if let Some(value) = &self.category {
            category(&mut found, value);
        }
        if let Some(value) = &self.image_urls {
            image_urls(&mut found, value);
        }
        if *self == Self::default() {
            add(&mut found, "body", "must have at least one field to change");
        }
        found
    }
}

fn title(found: &mut Vec<Violation>, value: &str) {
    text(found, "title", value, 1, TITLE_MAX);
    if !value.is_empty() && value.trim().is_empty() {
        add(found, "title", "must not be blank");
    }
}

fn body(found: &mut Vec<Violation>, value: &str) {
    text(found, "body", value, 0, BODY_MAX);
}

/// Also the rule for the list's filter of that name.
pub fn category(found: &mut Vec<Violation>, value: &str) {
    text(found, "category", value, 1, CATEGORY_MAX);
}

/// Also the rule for the bounds of the list's price filter.
pub fn price(found: &mut Vec<Violation>, field: &str, value: i64) {
    if !(0..=PRICE_MAX).contains(&value) {
        add(found, field, number::outside(0, PRICE_MAX, value));
    }
}

fn image_urls(found: &mut Vec<Violation>, urls: &[String]) {
    if urls.len() > IMAGES_MAX {
        add(
            found,
            "image_urls",
            format!("must have at most {IMAGES_MAX} entries, got {}", urls.len()),
        );
        return;
    }
    for (index, url) in urls.iter().enumerate() {
        image_url::check(found, &format!("image_urls[{index}]"), url);
    }
}

/// Counts characters as PostgreSQL's `char_length` does. PostgreSQL cannot store NUL.
pub fn text(found: &mut Vec<Violation>, field: &str, value: &str, min: usize, max: usize) {
    let length = value.chars().count();
    if !(min..=max).contains(&length) {
        let limit = if min == 0 {
            format!("at most {max}")
        } else {
            format!("{min} to {max}")
        };
        add(
            found,
            field,
            format!("must have {limit} characters, got {length}"),
        );
    }
    if value.contains('\0') {
        add(found, field, "must not contain the character U+0000");
    }
}

pub fn add(found: &mut Vec<Violation>, field: impl Into<String>, message: impl Into<String>) {
    found.push(Violation {
        field: field.into(),
        message: message.into(),
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use utoipa::PartialSchema;
    use utoipa::openapi::{RefOr, Schema};

    use super::*;

    fn post() -> NewPost {
        NewPost {
            title: "책상 팝니다".to_owned(),
            body: String::new(),
            price: 30_000,
            category: "가구".to_owned(),
            image_urls: vec!["https://images.example/1.jpg".to_owned()],
        }
    }

    fn only(found: &[Violation]) -> (&str, &str) {
        assert_eq!(found.len(), 1, "{found:?}");
        (&found[0].field, &found[0].message)
    }

    #[test]
    fn every_limit_says_the_field_the_limit_and_what_came() {
        assert_eq!(post().violations(), []);
        let broken = |change: &dyn Fn(&mut NewPost)| {
            let mut post = post();
            change(&mut post);
            post.violations()
        };
        for (found, field, message) in [
            (
                broken(&|p| p.title.clear()),
                "title",
                "must have 1 to 100 characters, got 0",
            ),
            (
                broken(&|p| p.title = "가".repeat(101)),
                "title",
                "must have 1 to 100 characters, got 101",
            ),
            (
                broken(&|p| p.title = " \t".to_owned()),
                "title",
                "must not be blank",
            ),
            (
                broken(&|p| p.title.push('\0')),
                "title",
                "must not contain the character U+0000",
            ),
            (
                broken(&|p| p.body = "가".repeat(10_001)),
                "body",
                "must have at most 10000 characters, got 10001",
            ),
            (
                broken(&|p| p.body.push('\0')),
                "body",
                "must not contain the character U+0000",
            ),
            (
                broken(&|p| p.price = -1),
                "price",
                "must be 0 to 10000000000, got -1",
            ),
            (
                broken(&|p| p.price = PRICE_MAX + 1),
                "price",
                "must be 0 to 10000000000, got 10000000001",
            ),
            (
                broken(&|p| p.category.clear()),
                "category",
                "must have 1 to 50 characters, got 0",
            ),
            (
                broken(&|p| p.image_urls = vec!["https://x.example/".to_owned(); 11]),
                "image_urls",
                "must have at most 10 entries, got 11",
            ),
            (
                broken(&|p| p.image_urls.push("http://x.example/".to_owned())),
                "image_urls[1]",
                "must be an absolute https URL, got `http://x.example/`",
            ),
            (
                broken(&|p| p.image_urls[0] = format!("https://x.example/{}", "a".repeat(500))),
                "image_urls[0]",
                "must have 1 to 500 characters, got 518",
            ),
        ] {
            assert_eq!(only(&found), (field, message));
        }
        let all = NewPost {
            title: String::new(),
            price: -1,
            category: String::new(),
            ..post()
        };
        assert_eq!(all.violations().len(), 3, "every violation is told at once");
    }

    #[test]
    fn the_document_has_the_limits() {
        let limits = |schema: RefOr<Schema>| serde_json::to_value(schema).unwrap();
        let (new, changes) = (limits(NewPost::schema()), limits(Changes::schema()));
        for (field, limit, value) in [
            ("title", "maxLength", TITLE_MAX),
            ("body", "maxLength", BODY_MAX),
            ("category", "maxLength", CATEGORY_MAX),
            ("price", "maximum", usize::try_from(PRICE_MAX).unwrap()),
            ("image_urls", "maxItems", IMAGES_MAX),
        ] {
            for schema in [&new, &changes] {
                assert_eq!(schema["properties"][field][limit], value, "{field}");
            }
        }
    }

    #[test]
    fn a_change_needs_a_field_and_takes_no_null() {
        let parse = serde_json::from_str::<Changes>;
        assert_eq!(
            only(&parse("{}").unwrap().violations()),
            ("body", "must have at least one field to change")
        );
        assert_eq!(parse(r#"{"status": "sold"}"#).unwrap().violations(), []);
        assert_eq!(only(&parse(r#"{"price": -5}"#).unwrap().violations()).0, "price");
        for wrong in [
            r#"{"title": null}"#,
            r#"{"status": "gone"}"#,
            r#"{"seller_id": 1}"#,
            r#"{"price": 1.5}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_text_is_composed_before_it_is_looked_at() {
        let decomposed = "\u{1112}\u{1161}\u{11ab}";
        let json = serde_json::json!({
            "title": decomposed.repeat(100), "body": decomposed, "category": decomposed, "price": 0,
        });
        let new: NewPost = serde_json::from_value(json.clone()).unwrap();
        assert_eq!((new.title, new.body.as_str()), ("한".repeat(100), "한"));
        assert_eq!(new.category, "한");
        let changes: Changes = serde_json::from_value(json).unwrap();
        assert_eq!(changes.violations(), []);
        assert_eq!(changes.title, Some("한".repeat(100)));
        let long = format!(r#"{{"title": "{}"}}"#, decomposed.repeat(101));
        let changes: Changes = serde_json::from_str(&long).unwrap();
        assert_eq!(
            only(&changes.violations()),
            ("title", "must have 1 to 100 characters, got 101")
        );
        // Some characters are composed of several: U+0958 has no form of its own.
        let grows: Changes = serde_json::from_str(r#"{"category": "\u0958"}"#).unwrap();
        assert_eq!(grows.category.as_deref(), Some("\u{915}\u{93c}"));
    }

    proptest! {
        #[test]
        fn a_text_is_refused_exactly_outside_of_its_limits(value in ".{0,120}", min in 0..3_usize) {
            let mut found = Vec::new();
            text(&mut found, "field", &value, min, 100);
            let length = value.chars().count();
            let fine = length >= min && length <= 100 && !value.contains('\0');
            prop_assert_eq!(found.is_empty(), fine);
        }

        #[test]
        fn a_change_follows_the_same_rules_as_a_new_post(
            title in ".{0,105}", price in -2..3_i64, category in ".{0,55}", url in "(https://[a-z]{1,5}\\.example/.{0,8})?",
        ) {
            let changes = Changes {
                title: Some(title.clone()), price: Some(price), category: Some(category.clone()),
                image_urls: Some(vec![url.clone()]), ..Changes::default()
            };
            let new = NewPost { title, price, category, image_urls: vec![url], ..post() };
            prop_assert_eq!(new.violations(), changes.violations());
        }
    }
}
