//! A million posts, among them those that make lists hard to read.

use std::time::Instant;

use futures_util::future::try_join_all;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row};

pub(crate) const POSTS: i64 = 1_000_000;
/// Posts up to this are the old ones: what only they have is far from the begin of the newest.
const OLD: i64 = 100_000;
/// Sells 30,000 posts, has bought 20,000 others, and keeps 20,000.
pub(crate) const BUSY_MEMBER: i64 = 7;

/// Every column is a function of the number of the post, so that each run has the same.
///
/// All posts have 상태, nearly half of them 직거래; one of 20 is a 책상, one of 50 a `MacBook`; 40,000 old ones have 패딩
/// and nobody else; 20 have 나전칠기, 20 have 쥐덫. One category has 30 posts, one only old ones, and one of
/// 125,000 has no 직거래. 40 are reserved,
/// all of them old. Old ones cost 70 million, and nobody else does.
const INSERT: &str = "
    INSERT INTO trade_posts (id, seller_id, buyer_id, title, body, price, category, status, created_at)
    SELECT n,
        CASE WHEN n % 33 = 0 THEN $3 ELSE 100 + h % 50000 END,
        CASE WHEN n % 50 = 0 AND n % 33 <> 0 THEN $3 WHEN h % 5 = 0 THEN 60000 + h % 40000 END,
        (ARRAY['원목','중고','새상품','미개봉','깨끗한','limited'])[1 + h % 6] || ' ' || CASE
            WHEN n % 50000 = 17 THEN '나전칠기'
            WHEN n % 50000 = 18 THEN '쥐덫'
            WHEN n <= $2 AND n % 5 < 2 THEN '패딩'
            WHEN h % 50 = 1 THEN 'MacBook'
            ELSE (ARRAY['책상','의자','자전거','아이폰','냉장고','운동화','텐트','카메라','피아노','유모차',
                        '그릇','소파','침대','램프','거울','시계','가방','우산','기타','러그'])[1 + h / 64 % 20]
        END || ' ' || chr(44032 + (h / 7 % 11172)::int),
        '상태 ' || chr(44032 + (h / 11 % 11172)::int) || CASE WHEN h / 32 % 2 = 0 AND n % 8 <> 3 THEN ' 직거래' ELSE ' 택배' END,
        CASE WHEN n <= $2 AND n % 2 = 0 THEN 70000000 ELSE h / 128 % 10000 * 1000 END,
        CASE WHEN n % 33333 = 5 THEN '희귀' WHEN n <= $2 AND n % 2 = 1 THEN '옛날' WHEN n % 8 = 3 THEN '가전'
            ELSE (ARRAY['가구','전자','의류','도서','스포츠','유아','악기','식물'])[1 + h / 9 % 8] END,
        CASE WHEN n % 2500 = 9 AND n <= $2 THEN 'reserved' WHEN h / 5 % 10 < 8 THEN 'on_sale' ELSE 'sold' END,
        '2025-01-01'::timestamptz + n * interval '20 s'
    FROM (SELECT n, hashint8(n)::bigint + 2147483648 AS h FROM generate_series(1, $1) AS n) AS numbers";

/// Popularity is spread, and the old posts have least.
const COUNTERS: &str = "
    INSERT INTO post_counters (trade_post_id, views)
    SELECT n, CASE WHEN n <= $2 THEN 0 ELSE (hashint8(n)::bigint + 2147483648) / 4000 END
    FROM generate_series(1, $1) AS n WHERE $3 > 0";
/// The same without the counters, to compare with them.
pub(crate) const BY_POPULARITY: &str =
    "CASE WHEN id <= 100000 THEN 0 ELSE (hashint8(id)::bigint + 2147483648) / 4000 END DESC, id DESC";

const FAVORITES: &str = "
    INSERT INTO favorites (member_id, trade_post_id, created_at)
    SELECT CASE WHEN n % 50 = 1 THEN $3 ELSE 100 + n % 5000 END, n, '2025-01-01'::timestamptz + n * interval '20 s'
    FROM generate_series(1, $1) AS n WHERE n % 50 = 1 OR n % 10 = 2 AND $2 > 0";

/// Fills the migrated database. Answers the time that took, for people.
pub(crate) async fn load(url: &str, superuser_url: &str) -> String {
    let begin = Instant::now();
    let pool = PgPoolOptions::new()
        .max_connections(3)
        .connect(url)
        .await
        .unwrap();
    // Entered one by one, entries of indexes take many times as long.
    let indexes = "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
                   FROM pg_index WHERE indrelid IN ('trade_posts'::regclass, 'post_counters'::regclass) AND NOT indisprimary";
    let indexes = sqlx::query(indexes).fetch_all(&pool).await.unwrap();
    for index in &indexes {
        let name: String = index.get("name");
        execute(&pool, format!("DROP INDEX {name}")).await.unwrap();
    }
    let mut superuser = PgConnection::connect(superuser_url).await.unwrap();
    // Neither one trigger for each row nor a look at the post for each of its counters.
    let without_triggers = "SET session_replication_role = replica";
    sqlx::raw_sql(without_triggers)
        .execute(&mut superuser)
        .await
        .unwrap();
    for sql in [INSERT, COUNTERS, FAVORITES] {
        let insert = sqlx::query(sql).bind(POSTS).bind(OLD).bind(BUSY_MEMBER);
        insert.execute(&mut superuser).await.unwrap();
    }
    superuser.close().await.unwrap();
    let (inserted, begin) = (begin.elapsed(), Instant::now());
    let build = indexes.iter().map(|index| {
        let definition: String = index.get("definition");
        execute(&pool, format!("SET maintenance_work_mem = '128MB'; {definition}"))
    });
    try_join_all(build).await.unwrap();
    execute(&pool, "ANALYZE".to_owned()).await.unwrap();
    pool.close().await;
    format!(
        "{POSTS} posts inserted in {inserted:.1?}, indexed in {:.1?}",
        begin.elapsed()
    )
}

async fn execute(pool: &PgPool, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(drop)
}
