-- Mails to the operator: one about each run of the schedule, and alarms. Each is written before it is sent and comes
-- once: the same kind about the same creditor, day and cause to the same address is one row. Nothing about debtors but
-- counts and sums stands in them.
CREATE TABLE dunning.operator_mail (
    mail_id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('digest', 'alarm')),
    creditor text NOT NULL,
    business_date date NOT NULL,
    -- `run_completed` for a digest; for an alarm what it is about.
    cause text NOT NULL CHECK (cause <> ''),
    recipient text NOT NULL,
    sender text NOT NULL,
    message_id text NOT NULL,
    bytes bytea NOT NULL,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'in_flight', 'accepted', 'refused', 'unknown')),
    -- What the relay answered, or why there was no answer.
    detail text,
    tries int NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT one_mail_per_cause_and_day UNIQUE (kind, creditor, business_date, cause, recipient)
);
CREATE INDEX operator_mail_to_send ON dunning.operator_mail (next_try_at) WHERE state IN ('queued', 'in_flight');

GRANT SELECT, INSERT, UPDATE ON dunning.operator_mail TO dunningd_app;
GRANT SELECT ON dunning.operator_mail TO dunningd_auditor;
