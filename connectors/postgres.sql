-- The role that Debezium captures trade posts and keywords with: it may read the captured columns, write
-- signals and its heartbeat, and stream the write-ahead log. Nothing else.
--
-- Run it as a superuser in the trade database, after trade-service's migrations. It can be run again at
-- any time, also in several databases of one server at once. It sets no password; do that yourself:
--     ALTER ROLE debezium PASSWORD '…';

DO $$
BEGIN
    CREATE ROLE debezium LOGIN REPLICATION;
EXCEPTION
    -- The second is what the loser of a race between two databases sees.
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

-- A role that exists already may lack an attribute. Roles belong to the whole server and two ALTERs at
-- once fail with "tuple concurrently updated", so one that is right is left alone.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'debezium' AND rolcanlogin AND rolreplication) THEN
        ALTER ROLE debezium LOGIN REPLICATION;
    END IF;
END
$$;

GRANT USAGE ON SCHEMA public TO debezium;

-- By column: what the connector leaves out cannot be read past it either.
GRANT SELECT (id, seller_id, title, status) ON public.trade_posts TO debezium;
GRANT SELECT (id, member_id, keyword) ON public.keywords TO debezium;

-- Incremental snapshots open and close each chunk's window with rows of their own.
GRANT SELECT, INSERT, UPDATE, DELETE ON public.debezium_signal TO debezium;

GRANT SELECT, INSERT, UPDATE ON public.debezium_heartbeat TO debezium;
