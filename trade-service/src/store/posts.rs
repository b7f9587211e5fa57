//! One post: created, read, changed, given to a buyer, deleted.

use super::{Store, StoreError};
use crate::post::{Changes, NewPost, Post};
use crate::status::{Status, Step};

/// What a writer expects of the post that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing was said.
    Unsaid,
    /// Any version, knowingly.
    Any,
    /// One of these.
    Versions(Vec<String>),
}

impl Expected {
    fn versions(&self) -> Option<&[String]> {
        match self {
            Self::Unsaid | Self::Any => None,
            Self::Versions(versions) => Some(versions),
        }
    }
}

/// A statement for one post. `$before` and `$after` stand around its columns.
macro_rules! one_post {
    ($before:tt, $after:tt, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            Post,
            $before
            + r#" id, seller_id, buyer_id, title, body, price, category, status AS "status: Status",
                image_urls, created_at, updated_at, xmin::text AS "version!",
                coalesce((SELECT views FROM post_counters WHERE trade_post_id = trade_posts.id), 0) AS "views!",
                coalesce((SELECT favorites FROM post_counters WHERE trade_post_id = trade_posts.id), 0) AS "favorites!" "#
            + $after,
            $($argument),*
        )
    };
}

impl Store {
    pub(crate) async fn create(&self, seller_id: i64, post: &NewPost) -> Result<Post, StoreError> {
        let post = one_post!(
            "INSERT INTO trade_posts (seller_id, title, body, price, category, image_urls)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING",
            "",
            seller_id,
            post.title,
            post.body,
            post.price,
            post.category,
            &post.image_urls,
        );
        Ok(post.fetch_one(&self.pool).await?)
    }

    pub(crate) async fn get(&self, id: i64) -> Result<Post, StoreError> {
        let post = one_post!("SELECT", "FROM trade_posts WHERE id = $1", id);
        post.fetch_optional(&self.pool).await?.ok_or(StoreError::NotFound)
    }

    pub(crate) async fn update(
        &self,
        id: i64,
        seller_id: i64,
        expected: &Expected,
        changes: &Changes,
    ) -> Result<Post, StoreError> {
        let step = changes.step();
        let open_in = step.map(Step::open_in);
        let write = Write {
            seller_id,
            expected,
            step,
            buyer_id: None,
            deletes: false,
        };
        loop {
            let post = one_post!(
                "UPDATE trade_posts
                 SET title = coalesce($4, title), body = coalesce($5, body), price = coalesce($6, price),
                     category = coalesce($7, category), status = coalesce($8, status),
                     image_urls = coalesce($9, image_urls), updated_at = now(),
                     buyer_id = CASE WHEN $8 = 'on_sale' THEN NULL ELSE buyer_id END
                 WHERE id = $1 AND seller_id = $2 AND ($3::text[] IS NULL OR xmin::text = ANY ($3))
                   AND ($10::text[] IS NULL OR status = ANY ($10))
                 RETURNING",
                "",
                id,
                seller_id,
                expected.versions(),
                changes.title,
                changes.body,
                changes.price,
                changes.category,
                changes.status as Option<Status>,
                changes.image_urls.as_deref(),
                open_in.as_deref() as Option<&[Status]>,
            );
            if let Some(post) = post.fetch_optional(&self.pool).await? {
                return Ok(post);
            }
            self.why_untouched(id, &write).await?;
        }
    }

    /// Reserves the post for that member, whoever it was reserved for before.
    pub(crate) async fn choose_buyer(
        &self,
        id: i64,
        seller_id: i64,
        expected: &Expected,
        buyer_id: i64,
    ) -> Result<Post, StoreError> {
        let step = Step::ChooseBuyer;
        let open_in = step.open_in();
        let write = Write {
            seller_id,
            expected,
            step: Some(step),
            buyer_id: Some(buyer_id),
            deletes: false,
        };
        loop {
            let post = one_post!(
                "UPDATE trade_posts SET buyer_id = $4, status = 'reserved', updated_at = now()
                 WHERE id = $1 AND seller_id = $2 AND seller_id <> $4
                   AND ($3::text[] IS NULL OR xmin::text = ANY ($3)) AND status = ANY ($5)
                 RETURNING",
                "",
                id,
                seller_id,
                expected.versions(),
                buyer_id,
                &open_in as &[Status],
            );
            if let Some(post) = post.fetch_optional(&self.pool).await? {
                return Ok(post);
            }
            self.why_untouched(id, &write).await?;
        }
    }

    /// Chats about the post go with it: the row's deletion is all that the rest of the system needs.
    pub(crate) async fn delete(
        &self,
        id: i64,
        seller_id: i64,
        expected: &Expected,
    ) -> Result<(), StoreError> {
        let write = Write {
            seller_id,
            expected,
            step: None,
            buyer_id: None,
            deletes: true,
        };
        loop {
            let delete = sqlx::query!(
                "DELETE FROM trade_posts
                 WHERE id = $1 AND seller_id = $2 AND ($3::text[] IS NULL OR xmin::text = ANY ($3))
                   AND (buyer_id IS NULL OR $4)",
                id,
                seller_id,
                expected.versions(),
                *expected != Expected::Unsaid,
            );
            if delete.execute(&self.pool).await?.rows_affected() > 0 {
                return Ok(());
            }
            self.why_untouched(id, &write).await?;
        }
    }

    /// Fails with the reason. Finds none if another writer has come in between and taken it away: then the
    /// write has to be tried again, and as each turn is one that another writer had, the turns end.
    async fn why_untouched(&self, id: i64, write: &Write<'_>) -> Result<(), StoreError> {
        let found = sqlx::query_as!(
            Found,
            r#"SELECT seller_id, buyer_id, status AS "status: Status", xmin::text AS "version!"
               FROM trade_posts WHERE id = $1"#,
            id,
        );
        let found = found.fetch_optional(&self.pool).await?;
        write.refusal(found.as_ref()).map_or(Ok(()), Err)
    }
}

/// A write to one post, as far as it may be refused.
#[derive(Debug)]
struct Write<'a> {
    seller_id: i64,
    expected: &'a Expected,
    step: Option<Step>,
    buyer_id: Option<i64>,
    deletes: bool,
}

/// What a write is refused for.
#[derive(Debug)]
struct Found {
    seller_id: i64,
    buyer_id: Option<i64>,
    status: Status,
    version: String,
}

impl Write<'_> {
    /// The `WHERE` of the statements above, once more, to name what is not met. What is wrong with the request
    /// itself comes before what is wrong with its time.
    fn refusal(&self, found: Option<&Found>) -> Option<StoreError> {
        let Some(found) = found else {
            return Some(StoreError::NotFound);
        };
        if found.seller_id != self.seller_id {
            return Some(StoreError::NotTheSeller);
        }
        if self.buyer_id == Some(found.seller_id) {
            return Some(StoreError::BuyerIsSeller);
        }
        if self
            .expected
            .versions()
            .is_some_and(|versions| !versions.contains(&found.version))
        {
            return Some(StoreError::VersionMismatch);
        }
        if self.deletes && found.buyer_id.is_some() && *self.expected == Expected::Unsaid {
            return Some(StoreError::VersionRequired);
        }
        let step = self.step?;
        match found.status.after(step) {
            Some(_) => None,
            None => Some(StoreError::NotOpen {
                step,
                current: found.status,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<'a>(change: impl FnOnce(&mut Write<'a>, &mut Found)) -> Option<StoreError> {
        let mut write = Write {
            seller_id: 7,
            expected: &Expected::Unsaid,
            step: None,
            buyer_id: None,
            deletes: false,
        };
        let mut found = Found {
            seller_id: 7,
            buyer_id: Some(8),
            status: Status::Sold,
            version: "41".to_owned(),
        };
        change(&mut write, &mut found);
        write.refusal(Some(&found))
    }

    #[test]
    fn the_reason_of_a_refusal_is_the_first_that_holds() {
        let stale = Expected::Versions(vec!["40".to_owned()]);
        let current = Expected::Versions(vec!["40".to_owned(), "41".to_owned()]);
        assert!(refusal(|_, _| ()).is_none());
        let foreign = refusal(|write, found| {
            (write.expected, write.step, found.seller_id) = (&stale, Some(Step::ChooseBuyer), 9);
        });
        assert!(matches!(foreign, Some(StoreError::NotTheSeller)), "{foreign:?}");
        let own = refusal(|write, _| (write.expected, write.buyer_id) = (&stale, Some(7)));
        assert!(matches!(own, Some(StoreError::BuyerIsSeller)), "{own:?}");
        let old = refusal(|write, _| (write.expected, write.step) = (&stale, Some(Step::ChooseBuyer)));
        assert!(matches!(old, Some(StoreError::VersionMismatch)), "{old:?}");
        let sold = refusal(|write, _| (write.expected, write.step) = (&current, Some(Step::ChooseBuyer)));
        let Some(StoreError::NotOpen {
            step,
            current: Status::Sold,
        }) = sold
        else {
            panic!("{sold:?}")
        };
        assert_eq!(step, Step::ChooseBuyer);
        assert!(refusal(|write, _| write.step = Some(Step::Reopen)).is_none());
        let gone = Write {
            seller_id: 7,
            expected: &Expected::Any,
            step: None,
            buyer_id: None,
            deletes: true,
        };
        assert!(matches!(gone.refusal(None), Some(StoreError::NotFound)));
    }

    #[test]
    fn deleting_what_somebody_waits_for_has_to_be_meant() {
        for (expected, buyer, refused) in [
            (Expected::Unsaid, Some(8), true),
            (Expected::Unsaid, None, false),
            (Expected::Any, Some(8), false),
            (Expected::Versions(vec!["41".to_owned()]), Some(8), false),
        ] {
            let refusal = refusal(|write, found| {
                (write.deletes, write.expected, found.buyer_id) = (true, &expected, buyer);
            });
            assert_eq!(
                matches!(refusal, Some(StoreError::VersionRequired)),
                refused,
                "{expected:?}"
            );
            assert_eq!(refusal.is_some(), refused);
        }
    }
}
