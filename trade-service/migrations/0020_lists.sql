-- What lists are read along and what they are found by, for every filter and sort: see
-- docs/decisions/0006-search.md and src/store/list.
-- Those that begin with a filter's column have an order of their own, with nulls first, though there are
-- none. A list asks for that order, so that no other index can give it. Else PostgreSQL would rather walk
-- all posts and drop those of other categories, which is right where the category's posts are spread evenly
-- and reads nearly everything where they are not.
DROP INDEX trade_posts_buyer, trade_posts_seller, trade_posts_category;
-- blocking: a table without rows, before the first release.
CREATE INDEX trade_posts_buyer ON trade_posts (buyer_id, created_at NULLS FIRST, id NULLS FIRST)
    WHERE buyer_id IS NOT NULL;
-- blocking: a table without rows, before the first release.
CREATE INDEX trade_posts_seller ON trade_posts (seller_id, created_at NULLS FIRST, id NULLS FIRST);
-- blocking: a table without rows, before the first release.
CREATE INDEX trade_posts_seller_price ON trade_posts (seller_id, price NULLS FIRST, id NULLS FIRST);
-- blocking: a table without rows, before the first release.
CREATE INDEX trade_posts_category ON trade_posts (category, created_at NULLS FIRST, id NULLS FIRST);
-- blocking: a table without rows, before the first release.
CREATE INDEX trade_posts_category_price ON trade_posts (category, price NULLS FIRST, id NULLS FIRST);
-- blocking: a table without rows, before the first release.
CREATE INDEX trade_posts_status ON trade_posts (status, created_at NULLS FIRST, id NULLS FIRST);
-- blocking: a table without rows, before the first release.
CREATE INDEX trade_posts_status_price ON trade_posts (status, price NULLS FIRST, id NULLS FIRST);

-- The pairs of neighbouring characters of a text in lower case, and its last character by itself.
-- Trigrams find texts of three letters and more; most Korean words have two, and some have one.
-- U+0001 divides pairs, so it is not told apart from a space.
CREATE FUNCTION trade_post_pairs(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN array_to_tsvector(array_remove(string_to_array(
        regexp_replace(translate(lower(content), U&'\0001', ' '), '(..)', U&'\\1\0001', 'g')
            || U&'\0001'
            || regexp_replace(substr(translate(lower(content), U&'\0001', ' '), 2), '(..)', U&'\\1\0001', 'g'),
        U&'\0001'), ''));

-- What the pairs of a text that contains `wanted` match: all pairs of it, or its only character as the
-- beginning of one.
CREATE FUNCTION trade_post_pairs_query(wanted text) RETURNS tsquery
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (
        SELECT string_agg(
            '''' || replace(replace(pair, '\', '\\'), '''', '''''') || ''''
                || CASE char_length(pair) WHEN 1 THEN ':*' ELSE '' END,
            ' & ')::tsquery
        FROM unnest(tsvector_to_array(trade_post_pairs(wanted))) AS pair
        WHERE char_length(pair) = 2 OR char_length(lower(wanted)) = 1
    );

-- Without a list of entries to be merged later: a search would read all of it, and one unlucky insert
-- would merge it.
-- blocking: a table without rows, before the first release.
CREATE INDEX trade_posts_pairs ON trade_posts
    USING gin (trade_post_pairs(title || E'\n' || body)) WITH (fastupdate = off);
ALTER INDEX trade_posts_search SET (fastupdate = off);
