-- Without a list of columns. Once Debezium has read a table for an incremental snapshot, it takes the table's columns
-- for those that the log brings: with a list in the publication, the next change of a post would stop it (decision 5).
-- What goes on to Kafka is the connector's column.include.list, as before.
-- capture: the connector is given whole rows, and passes on four of their columns.
ALTER PUBLICATION trade_cdc DROP TABLE trade_posts;
-- capture: the same table again.
ALTER PUBLICATION trade_cdc ADD TABLE trade_posts;
