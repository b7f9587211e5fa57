-- What members make of posts: views and favourites.
--
-- None of it is captured: it is written far more often than posts are, and chats do not need it.

-- One row for each post, made with it. Apart from the posts, because a post that is counted anew would be
-- captured anew, and would get another version.
CREATE TABLE post_counters (
    -- UPDATE, because an operator may change a post's id.
    trade_post_id bigint PRIMARY KEY REFERENCES trade_posts ON DELETE CASCADE ON UPDATE CASCADE,
    views bigint NOT NULL DEFAULT 0 CHECK (views >= 0),
    favorites bigint NOT NULL DEFAULT 0 CHECK (favorites >= 0),
    -- Whoever keeps a post for later shows more interest than whoever looks. The weight is in src/post.rs, too.
    popularity bigint NOT NULL GENERATED ALWAYS AS (views + 10 * favorites) STORED
);

-- The order of the list by popularity, read backwards.
CREATE INDEX post_counters_popularity ON post_counters (popularity, trade_post_id);

CREATE TABLE favorites (
    member_id bigint NOT NULL CHECK (member_id > 0),
    trade_post_id bigint NOT NULL REFERENCES trade_posts ON DELETE CASCADE ON UPDATE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (member_id, trade_post_id)
);

-- A member's favourites, the newest first.
CREATE INDEX favorites_newest ON favorites (member_id, created_at, trade_post_id);
-- For the deletion of a post.
CREATE INDEX favorites_post ON favorites (trade_post_id);

-- For every way in which a post comes into the table, this service's and others. One statement for all posts
-- of a statement, so that many at once stay cheap. As its owner: who may write posts need not know of this.
CREATE FUNCTION make_post_counters() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO post_counters (trade_post_id) SELECT id FROM inserted;
    RETURN NULL;
END
$$;

CREATE TRIGGER trade_posts_counters AFTER INSERT ON trade_posts
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION make_post_counters();

-- blocking: a table without rows, before the first release. The trigger is there, and nobody can write posts before this transaction ends: no post is left out.
INSERT INTO post_counters (trade_post_id) SELECT id FROM trade_posts;
