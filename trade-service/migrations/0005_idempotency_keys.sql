-- Which post a request to create one made, so that its repetition can be told.
--
-- Written in the statement that makes the post. Not captured.
CREATE TABLE idempotency_keys (
    member_id bigint NOT NULL CHECK (member_id > 0),
    key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
    -- Of what the request asked for: SHA-256.
    request_hash bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    -- What the service decided about the new post; everything else of the first answer is in the request.
    -- No reference to the post: it may be deleted while its request is still known.
    trade_post_id bigint NOT NULL,
    version text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (member_id, key)
);

-- Keys are removed by age.
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
