-- A member's purchases: the posts that they were chosen as buyer of.
-- blocking: a table without rows, before the first release.
CREATE INDEX trade_posts_buyer ON trade_posts (buyer_id, created_at, id) WHERE buyer_id IS NOT NULL;
