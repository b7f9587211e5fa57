-- What change data capture needs in this database. The role that reads it is created outside, by
-- connectors/postgres.sql, because creating a role takes a superuser.

-- Rows that an operator inserts to command the connector, such as an incremental snapshot.
CREATE TABLE debezium_signal (
    id varchar(64) PRIMARY KEY,
    type varchar(32) NOT NULL,
    data varchar(2048)
);

-- One row that the connector updates, so that its replication slot moves on while nothing else is written.
CREATE TABLE debezium_heartbeat (
    id int PRIMARY KEY,
    beat_at timestamptz NOT NULL
);

-- The column list keeps the text, the price and the buyer of a post inside the database.
CREATE PUBLICATION trade_cdc
    FOR TABLE trade_posts (id, seller_id, title, status), debezium_signal, debezium_heartbeat;
