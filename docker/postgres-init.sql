-- Runs once, when the volume is new. trade-service owns its database and creates the tables itself.
CREATE ROLE trade LOGIN PASSWORD 'trade'; -- local use only
CREATE DATABASE trade OWNER trade;
