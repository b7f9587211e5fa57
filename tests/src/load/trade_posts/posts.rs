//! Posts written into PostgreSQL beside the service.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgPoolOptions};

/// What people write: some twenty letters of title, some seventy of text, spread over a year and 50,000 sellers.
const INSERT: &str = "
    INSERT INTO trade_posts (seller_id, title, body, price, category, status, image_urls, created_at)
    SELECT 1 + h % 50000,
        (ARRAY['원목','중고','새상품','미개봉','깨끗한','거의 새것','급처','정품','limited','무료나눔'])[1 + h % 10] || ' '
            || (ARRAY['책상','의자','자전거','아이폰','노트북','냉장고','세탁기','패딩','운동화','텐트','카메라','기타',
                      '피아노','유모차','iPad','MacBook','그릇','소파','침대','나전칠기'])
               [1 + CASE WHEN h % 5000 = 0 THEN 19 ELSE h / 16 % 19 END] || ' '
            || chr(44032 + (h / 3 % 11172)::int) || chr(44032 + (h / 7 % 11172)::int) || ' ' || n,
        '상태 좋습니다. ' || chr(44032 + (h / 5 % 11172)::int) || ' ' || chr(44032 + (h / 11 % 11172)::int)
            || chr(44032 + (h / 13 % 11172)::int) || ' 역 앞에서 직거래 원해요. 택배 가능, size ' || h % 300
            || ' cm. 문의 주세요 ' || h,
        h / 128 % 10000 * 1000,
        (ARRAY['가구','전자','의류','도서','스포츠','유아','악기','반려','식물','뷰티'])[1 + h / 9 % 10],
        CASE WHEN h / 5 % 10 < 8 THEN 'on_sale' ELSE 'sold' END,
        ARRAY['https://images.example/' || n || '.jpg'],
        now() - ($1 - n) * interval '30 s'
    FROM (SELECT n, hashint8(n)::bigint + 2147483648 AS h FROM generate_series(1, $1) AS n) AS numbers";

/// Answers how long that took.
pub(super) async fn fill(url: &str, posts: i64) -> Duration {
    let begun = Instant::now();
    let pool = PgPoolOptions::new().max_connections(3).connect(url).await;
    let pool = pool.expect("PostgreSQL answers");
    // Entered one by one, entries of indexes take many times as long.
    let indexes = "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
                   FROM pg_index WHERE indrelid = 'trade_posts'::regclass AND NOT indisprimary";
    let indexes = sqlx::query(indexes)
        .fetch_all(&pool)
        .await
        .expect("PostgreSQL answers");
    for index in &indexes {
        let name: String = index.get("name");
        execute(&pool, format!("DROP INDEX {name}"))
            .await
            .expect("its owner drops it");
    }
    let insert = sqlx::query(INSERT).bind(posts).execute(&pool).await;
    insert.expect("PostgreSQL takes posts");
    let build = indexes.iter().map(|index| {
        let definition: String = index.get("definition");
        execute(&pool, format!("SET maintenance_work_mem = '128MB'; {definition}"))
    });
    try_join_all(build).await.expect("its owner builds it");
    execute(&pool, "VACUUM ANALYZE".to_owned())
        .await
        .expect("statistics");
    pool.close().await;
    begun.elapsed()
}

async fn execute(pool: &PgPool, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(drop)
}
