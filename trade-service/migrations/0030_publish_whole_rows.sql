-- Posts are published whole, and the connector's column.include.list decides what of them leaves its worker.
--
-- A list of columns here does not go together with incremental snapshots. For each of them Debezium (3.6) reads anew
-- which columns the table has, all of them, and from then on takes the values in the log to be theirs, in this
-- order. With a list, the next change stops its task, or puts the value of one column into another.
-- capture: the connector, not the publication, decides which columns go on.
ALTER PUBLICATION trade_cdc DROP TABLE trade_posts;
-- capture: as above.
ALTER PUBLICATION trade_cdc ADD TABLE trade_posts;
