//! The lists, and what each may cost.

use std::time::{Duration, Instant};

use reqwest::Method;
use sqlx::{AssertSqlSafe, PgPool};

use crate::plan::Plans;
use crate::posts::{self, BUSY_MEMBER};
use crate::service::{Answer, Service, config, new_database, token};

/// A page of what an index has in the order of the list: each row of it, once more to show it, and twice its
/// counters.
const PAGE: f64 = 110.0;
/// Few posts pass: those that are walked to see that, and those that an index finds.
const FEW: f64 = 2_000.0;
/// Many posts pass, or some thousands that an index finds.
const SOME: f64 = 16_000.0;
/// What passes is far away in the list, and too much to be collected.
const FAR: f64 = 141_000.0;

/// Both leave more than 100,000 posts, and together none: its pages are empty, and say where to go on.
const NONE_AMONG_MANY: Query = &[("q", "직거래"), ("category", "가전")];

type Query = &'static [(&'static str, &'static str)];

/// A list, and how many rows each page of it may read.
const LISTS: &[(Query, f64)] = &[
    (&[], PAGE),
    (&[("category", "가구")], PAGE),
    (&[("category", "희귀")], PAGE),
    (&[("category", "옛날")], PAGE),
    (&[("category", "없는 것")], PAGE),
    (&[("status", "on_sale")], PAGE),
    (&[("status", "reserved")], PAGE),
    (&[("seller_id", "7")], PAGE),
    (&[("seller_id", "150")], PAGE),
    (&[("seller_id", "9999999")], PAGE),
    (&[("seller_id", "7"), ("category", "희귀")], SOME),
    (&[("category", "가구"), ("status", "sold")], FEW),
    (&[("category", "가구"), ("status", "reserved")], FEW),
    (&[("category", "옛날"), ("status", "on_sale")], FEW),
    (&[("min_price", "5000000")], FEW),
    (&[("min_price", "5000000"), ("max_price", "5001000")], FEW),
    (&[("min_price", "70000000")], FAR),
    (&[("min_price", "80000000")], FEW),
    (&[("min_price", "70000000"), ("category", "옛날")], FAR),
    (&[("q", "상태")], FEW),
    (&[("q", "직거래")], FEW),
    (&[("q", "책상")], SOME),
    (&[("q", "macbook")], SOME),
    (&[("q", "나전칠기")], FEW),
    (&[("q", "쥐덫")], FEW),
    (&[("q", "덫")], FEW),
    (&[("q", "패딩")], FAR),
    (&[("q", "패")], FAR),
    (&[("q", "옛날책방")], FEW),
    (&[("q", "상책")], FEW),
    (&[("q", "뷁")], FEW),
    (&[("q", "😀")], FEW),
    (&[("q", "원목 책상 ")], SOME),
    (&[("q", "책상"), ("category", "희귀")], FEW),
    (&[("q", "쥐덫"), ("status", "sold")], FEW),
    (&[("q", "직거래"), ("seller_id", "7")], FEW),
    (NONE_AMONG_MANY, FAR),
    (
        &[
            ("q", "책상"),
            ("min_price", "1000000"),
            ("max_price", "1100000"),
            ("status", "on_sale"),
        ],
        FAR,
    ),
];

/// And what they order by; see the counters for the last.
const SORTS: [(&str, &str); 4] = [
    ("newest", "created_at DESC, id DESC"),
    ("price_asc", "price, id"),
    ("price_desc", "price DESC, id DESC"),
    ("popular", posts::BY_POPULARITY),
];

/// A list of the caller's own, and what it shows.
const OWN: [(&str, &str); 3] = [
    (
        "/v1/me/posts",
        "SELECT id FROM trade_posts WHERE seller_id = $1 ORDER BY created_at DESC, id DESC",
    ),
    (
        "/v1/me/purchases",
        "SELECT id FROM trade_posts WHERE buyer_id = $1 ORDER BY created_at DESC, id DESC",
    ),
    (
        "/v1/me/favorites",
        "SELECT trade_post_id FROM favorites WHERE member_id = $1 ORDER BY created_at DESC, trade_post_id DESC",
    ),
];
/// Has nothing.
const NEW_MEMBER: i64 = 9_999_999;

struct Bench {
    service: Service,
    plans: Plans,
    sql: PgPool,
    slowest: Duration,
    /// Whether what is shown is compared with what PostgreSQL finds by reading everything.
    compares: bool,
}

struct List<'a> {
    path: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    caller: i64,
    /// Finds its posts, in their order.
    right: String,
    /// How many rows a page may read.
    rows: f64,
}

#[tokio::test]
async fn every_list_of_a_million_posts_reads_few_of_them_and_shows_the_right_ones() {
    let begin = Instant::now();
    let url = new_database("plans").await;
    drop(start(&url).await);
    let superuser = local_stack::testing::postgres().await.superuser_url("plans");
    let loaded = posts::load(&url, &superuser).await;
    println!("{loaded}");
    let plans = Plans::of("plans").await;
    let mut bench = Bench {
        service: start(&url).await,
        plans,
        sql: PgPool::connect(&url).await.unwrap(),
        slowest: Duration::ZERO,
        compares: true,
    };
    for mode in ["force_custom_plan", "force_generic_plan"] {
        Plans::mode("plans", mode).await;
        bench.service = start(&url).await;
        println!("{mode}");
        for (query, rows) in LISTS {
            for (sort, order) in SORTS {
                let mut parameters = query.to_vec();
                parameters.push(("sort", sort));
                let right = format!(
                    "SELECT id FROM trade_posts WHERE $1 <> 0{} ORDER BY {order}",
                    condition(query)
                );
                // No filter leads to the order by popularity, and its rows are two each. The old posts, which are
                // the least popular, are as far away as can be.
                let rows = match sort {
                    "popular" if query.contains(&("category", "옛날")) => 2.0 * FAR,
                    "popular" => 2.0 * SOME.max(*rows),
                    _ => *rows,
                };
                let list = List {
                    path: "/v1/trade-posts",
                    parameters,
                    caller: 1,
                    right,
                    rows,
                };
                bench.list(&list).await;
            }
        }
        for (path, right) in OWN {
            for caller in [BUSY_MEMBER, NEW_MEMBER] {
                let right = right.to_owned();
                bench
                    .list(&List {
                        path,
                        parameters: vec![],
                        caller,
                        right,
                        rows: PAGE,
                    })
                    .await;
            }
        }
        bench.compares = false;
        bench.empty_pages_end().await;
        println!("slowest: {:.1?}", bench.slowest);
    }
    println!("all in {:.1?}", begin.elapsed());
}

/// With one connection, so that its statements are in the log one after the other.
async fn start(url: &str) -> Service {
    let mut config = config(url);
    config.database.connections = 1;
    config.database.statement = Duration::from_secs(30);
    config.database.request = Duration::from_mins(1);
    let service = Service::start_with(config).await;
    service.until_ready().await;
    service
}

impl Bench {
    /// Whoever goes on where a page says so comes to the end.
    async fn empty_pages_end(&self) {
        let mut cursor = None::<String>;
        for _ in 0..10 {
            let mut parameters = NONE_AMONG_MANY.to_vec();
            parameters.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let request = self
                .service
                .request(Method::GET, "/v1/trade-posts")
                .query(&parameters);
            let page = Answer::of(request).await.body;
            assert_eq!(page["items"].as_array().map(Vec::len), Some(0));
            cursor = page["next_cursor"].as_str().map(ToOwned::to_owned);
            if cursor.is_none() {
                return;
            }
        }
        panic!("it does not end");
    }

    /// Two pages of a list, if there are.
    async fn list(&mut self, list: &List<'_>) {
        let name = format!("{} {:?} of {}", list.path, list.parameters, list.caller);
        let mut shown = Vec::new();
        let mut cursor = None::<String>;
        for page in 1..=if self.compares { 2 } else { 1 } {
            let mut parameters = list.parameters.clone();
            parameters.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let request = self.service.request(Method::GET, list.path).query(&parameters);
            self.plans.work();
            let begin = Instant::now();
            let answer = Answer::of(request.bearer_auth(token(list.caller))).await;
            let took = begin.elapsed();
            self.slowest = self.slowest.max(took);
            assert_eq!(answer.status, 200, "{name}: {}", answer.body);
            let work = self.plans.work();
            println!(
                "{took:>8.1?} {:>6.0} rows {:>6} pages in {} by {:?}: {name}, page {page}",
                work.rows, work.pages, work.statements, work.indexes
            );
            assert!(work.statements > 0, "{name}: no plan in the log");
            assert!(work.whole.is_empty(), "{name} reads all of {:?}", work.whole);
            assert!(work.rows <= list.rows, "{name}: {work:?}");
            // A row costs its own page, and some of an index.
            assert!(work.pages <= 300.0 + 4.0 * list.rows, "{name}: {work:?}");
            let items = answer.body["items"].as_array().unwrap();
            shown.extend(items.iter().map(|post| post["id"].as_i64().unwrap()));
            cursor = answer.body["next_cursor"].as_str().map(ToOwned::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        if self.compares {
            let sql = AssertSqlSafe(format!("{} LIMIT 40", list.right));
            let right = sqlx::query_scalar(sql)
                .bind(list.caller)
                .fetch_all(&self.sql)
                .await;
            let mut right: Vec<i64> = right.unwrap();
            // Where posts are far apart, a page may be short; what it leaves out comes with the next.
            if cursor.is_some() {
                right.truncate(shown.len());
            }
            assert_eq!(shown, right, "{name}");
        }
    }
}

fn condition(query: Query) -> String {
    let condition = |(name, value): &(&str, &str)| match *name {
        "q" => format!(" AND (title ILIKE '%{value}%' OR body ILIKE '%{value}%')"),
        "min_price" => format!(" AND price >= {value}"),
        "max_price" => format!(" AND price <= {value}"),
        name => format!(" AND {name} = '{value}'"),
    };
    query.iter().map(condition).collect()
}
