//! The shipped data set: members, their posts with the chats about them, and how each post goes.
//!
//! Invariant: it has what the demo promises; a test holds the file to it.

use anyhow::{Context, Result};
use serde::Deserialize;

const SHIPPED: &str = include_str!("../../demo/market.json");
/// Records of the collection that the long chat goes through one by one.
const RECORDS: usize = 10_000;
const LARGE_CHAT_BUYER: i64 = 2007;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Market {
    pub(super) members: Vec<Member>,
    pub(super) posts: Vec<Post>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    pub(super) id: i64,
    #[expect(dead_code, reason = "for whoever reads the file")]
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Post {
    pub(super) seller: i64,
    pub(super) title: String,
    pub(super) category: String,
    /// In won.
    pub(super) price: i64,
    pub(super) body: String,
    /// None: it stays.
    pub(super) deleted_by: Option<DeletedBy>,
    pub(super) chats: Vec<Chat>,
}

/// How a post is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DeletedBy {
    Rest,
    /// By REST too; its room holds the long chat.
    RestLarge,
    Sql,
    /// Together with others in one statement.
    SqlBatch,
    /// By REST, one after another: enough of them for a median.
    RestEach,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chat {
    pub(super) buyer: i64,
    pub(super) messages: Vec<Line>,
    /// Made up; in which order its lines arrive does not matter.
    #[serde(skip)]
    pub(super) generated: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) from: Side,
    pub(super) body: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    Seller,
    Buyer,
}

impl Market {
    /// The shipped file, with the long chat that is not worth shipping.
    pub(super) fn shipped() -> Result<Self> {
        let mut market: Self =
            serde_json::from_str(SHIPPED).context("local-stack/demo/market.json cannot be read")?;
        for post in &mut market.posts {
            if post.deleted_by == Some(DeletedBy::RestLarge) {
                post.chats.push(long_chat());
            }
        }
        Ok(market)
    }

    pub(super) fn messages(&self) -> usize {
        self.chats().map(|chat| chat.messages.len()).sum()
    }

    pub(super) fn chats(&self) -> impl Iterator<Item = &Chat> {
        self.posts.iter().flat_map(|post| &post.chats)
    }
}

/// A collector asks after every record on the shelves, and the seller looks at each.
fn long_chat() -> Chat {
    const SHELVES: [&str; 6] = ["가요", "재즈", "클래식", "팝", "영화음악", "국악"];
    const QUESTIONS: [&str; 5] = [
        "상태가 어떤가요?",
        "재킷도 깨끗한가요?",
        "튀는 곳 없을까요?",
        "초반인가요 재반인가요?",
        "속지까지 다 있나요?",
    ];
    const ANSWERS: [&str; 7] = [
        "판은 깨끗하고 재킷에 생활감만 조금 있어요",
        "잔기스 몇 줄 있는데 재생에는 문제없어요",
        "미개봉입니다",
        "첫 곡에서 살짝 지직거려요",
        "재킷 모서리가 눌렸고 판은 새것 같아요",
        "속지 포함이고 거의 안 들은 판이에요",
        "이건 상태가 별로라 덤으로 드릴게요",
    ];
    let lines = (1..=RECORDS).flat_map(|number| {
        let shelf = SHELVES[(number / 40) % SHELVES.len()];
        let record = format!("{shelf} {}번 칸 {}번째 판", number / 40 + 1, number % 40 + 1);
        [
            Line {
                from: Side::Buyer,
                body: format!("{record} {}", QUESTIONS[number % QUESTIONS.len()]),
            },
            Line {
                from: Side::Seller,
                body: format!("{record}은 {}", ANSWERS[number % ANSWERS.len()]),
            },
        ]
    });
    Chat {
        buyer: LARGE_CHAT_BUYER,
        messages: lines.collect(),
        generated: true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn the_shipped_market_is_large_and_varied_enough() {
        let market = Market::shipped().unwrap();
        let shipped: Vec<&Chat> = market.chats().filter(|chat| !chat.generated).collect();
        let texts: Vec<&str> = shipped
            .iter()
            .flat_map(|chat| &chat.messages)
            .map(|line| line.body.as_str())
            .collect();
        assert!(market.posts.len() >= 30);
        assert!(shipped.len() >= 60);
        assert!(texts.len() >= 1_000);
        assert!(texts.iter().collect::<HashSet<_>>().len() >= 500);
        assert_eq!(market.messages() - texts.len(), 20_000);
    }

    #[test]
    fn every_way_to_go_has_its_posts_and_enough_stay() {
        let market = Market::shipped().unwrap();
        let mut ways: HashMap<Option<DeletedBy>, usize> = HashMap::new();
        for post in &market.posts {
            *ways.entry(post.deleted_by).or_default() += 1;
            assert!(!post.chats.is_empty(), "{} has no chat", post.title);
        }
        assert_eq!(ways[&Some(DeletedBy::Rest)], 1);
        assert_eq!(ways[&Some(DeletedBy::RestLarge)], 1);
        assert_eq!(ways[&Some(DeletedBy::Sql)], 1);
        assert_eq!(ways[&Some(DeletedBy::SqlBatch)], 10);
        assert_eq!(ways[&Some(DeletedBy::RestEach)], 20);
        assert!(ways[&None] >= 10);
    }

    #[test]
    fn members_exist_and_nobody_buys_from_themselves() {
        let market = Market::shipped().unwrap();
        let members: HashSet<i64> = market.members.iter().map(|member| member.id).collect();
        for post in &market.posts {
            let buyers: HashSet<i64> = post.chats.iter().map(|chat| chat.buyer).collect();
            assert_eq!(buyers.len(), post.chats.len(), "{}", post.title);
            assert!(members.contains(&post.seller) && !buyers.contains(&post.seller));
            assert!(buyers.is_subset(&members));
        }
    }
}
