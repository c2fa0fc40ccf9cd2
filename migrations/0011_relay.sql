-- What has failed so often that it waits: the relay, the sender of a creditor, a letter. One row from the first failure
-- to the next success.
CREATE TABLE dunning.breaker (
    kind text NOT NULL CHECK (kind IN ('relay', 'sender', 'content')),
    -- `host:port`, the creditor, or `creditor/stage/language`.
    subject text NOT NULL,
    -- In a row.
    failures int NOT NULL,
    opened int NOT NULL,
    cause text NOT NULL,
    -- Nothing of it is sent before; null while too little has failed.
    until timestamptz,
    probing boolean NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, subject)
);

-- Whether a notice has to wait because its sender or its letter does.
CREATE FUNCTION dunning.waits_for_breaker(creditor text, stage text, language text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM dunning.breaker b
                   WHERE b.until > clock_timestamp()
                     AND (b.kind = 'sender' AND b.subject = $1
                          OR b.kind = 'content' AND b.subject = concat_ws('/', $1, $2, $3)))
$$;

GRANT SELECT ON dunning.breaker TO dunningd_app, dunningd_auditor;
GRANT INSERT, UPDATE, DELETE ON dunning.breaker TO dunningd_app;
