-- What dunningd decides, sends and knows. Every table carries `creditor` and `account_id` where it is about an account,
-- so that joins stay inside one account.

-- Functions that read `ledger` are made before it is known that the owner may look into it: they run as their caller.
SET LOCAL check_function_bodies = off;

-- Texts behind hashes: policies, templates, creditors, ladders. Append-only.
CREATE TABLE dunning.text (
    sha256 text PRIMARY KEY,
    kind text NOT NULL,
    body text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One evaluation of all accounts of a creditor for one business date.
CREATE TABLE dunning.run (
    run_id uuid PRIMARY KEY,
    creditor text NOT NULL,
    business_date date NOT NULL,
    scheduled boolean NOT NULL,
    as_of boolean NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'completed', 'refused', 'failed')),
    -- Why it was refused or failed.
    reason text,
    last_account text,
    invoices_as_of timestamptz,
    payments_as_of timestamptz,
    policy_sha256 text NOT NULL REFERENCES dunning.text,
    templates_sha256 text NOT NULL REFERENCES dunning.text,
    creditors_sha256 text NOT NULL REFERENCES dunning.text,
    totals jsonb,
    digest text,
    started_at timestamptz NOT NULL,
    completed_at timestamptz
);
CREATE UNIQUE INDEX run_once_per_scheduled_date ON dunning.run (creditor, business_date)
    WHERE scheduled AND state IN ('running', 'completed');
CREATE INDEX run_by_date ON dunning.run (creditor, business_date DESC);

-- One account's way through a ladder, from its first overdue item until nothing overdue remains.
CREATE TABLE dunning.debt_case (
    case_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    creditor text NOT NULL,
    account_id text NOT NULL,
    ladder_sha256 text NOT NULL REFERENCES dunning.text,
    opened_on date NOT NULL,
    closed_on date
);
CREATE UNIQUE INDEX one_open_case ON dunning.debt_case (account_id) WHERE closed_on IS NULL;
CREATE INDEX case_of_account ON dunning.debt_case (account_id);

-- A decision that differs from the account's previous one.
CREATE TABLE dunning.decision (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES dunning.run,
    creditor text NOT NULL,
    account_id text NOT NULL,
    business_date date NOT NULL,
    kind text NOT NULL CHECK (kind IN ('contact', 'wait', 'skip', 'hold')),
    code text NOT NULL,
    next_date date,
    identity_sha256 text NOT NULL,
    detail jsonb NOT NULL
);
CREATE INDEX decision_latest ON dunning.decision (account_id, decision_id DESC);

-- An intended contact with its frozen content.
CREATE TABLE dunning.notice (
    notice_id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES dunning.run,
    creditor text NOT NULL,
    account_id text NOT NULL,
    stage text NOT NULL,
    tone text NOT NULL,
    language text NOT NULL,
    state text NOT NULL CHECK (state IN ('planned', 'awaiting_approval', 'queued', 'claimed', 'in_flight', 'accepted',
        'deferred', 'refused', 'unknown', 'cancelled', 'bounced', 'delivered', 'replied')),
    reason text,
    business_date date NOT NULL,
    -- The clock that the decision was made by: set for --as-of, null for today's.
    as_of date,
    not_before timestamptz,
    valid_until date NOT NULL,
    respond_by date,
    recipient_key text NOT NULL,
    sender_domain text NOT NULL,
    message_id text NOT NULL,
    fingerprint text NOT NULL,
    demanded jsonb NOT NULL,
    on_unknown text NOT NULL,
    tries int NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    lease_token uuid,
    lease_until timestamptz,
    counted_on date,
    accepted_on date,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX notice_of_account ON dunning.notice (account_id COLLATE "C");
CREATE INDEX notice_to_send ON dunning.notice (state, next_try_at) WHERE state IN ('queued', 'deferred', 'claimed');
CREATE INDEX notice_of_mailbox ON dunning.notice (recipient_key) WHERE state <> 'cancelled';

-- The one guard against doubles: one live notice per item and stage.
CREATE TABLE dunning.notice_item (
    notice_id uuid NOT NULL REFERENCES dunning.notice,
    item_id text NOT NULL,
    stage text NOT NULL,
    live boolean NOT NULL DEFAULT true,
    currency text NOT NULL,
    to_pay numeric NOT NULL,
    PRIMARY KEY (notice_id, item_id)
);
CREATE UNIQUE INDEX one_live_notice_per_item_and_stage ON dunning.notice_item (item_id, stage) WHERE live;

-- Personal data of a notice: erasing it leaves the log verifiable.
CREATE TABLE dunning.message (
    notice_id uuid PRIMARY KEY REFERENCES dunning.notice,
    recipient text NOT NULL,
    sender text NOT NULL,
    bytes bytea NOT NULL,
    salt bytea NOT NULL,
    -- The snapshot and the letter behind the decision, so that it can be performed again.
    snapshot jsonb NOT NULL,
    letter jsonb NOT NULL
);
ALTER TABLE dunning.message ALTER COLUMN bytes SET COMPRESSION pglz;

-- One try to deliver a notice.
CREATE TABLE dunning.attempt (
    attempt_id uuid PRIMARY KEY,
    notice_id uuid NOT NULL REFERENCES dunning.notice,
    number int NOT NULL,
    outcome text CHECK (outcome IN ('accepted', 'deferred', 'refused', 'unknown', 'cancelled')),
    phase text,
    reply_code int,
    reply_text text,
    detail text,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    UNIQUE (notice_id, number)
);

-- Holds recorded by people.
CREATE TABLE dunning.hold (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text NOT NULL,
    item_id text,
    until date,
    reason text NOT NULL,
    since date NOT NULL,
    placed_by text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_by text,
    released_at timestamptz,
    release_reason text
);
CREATE INDEX hold_of_account ON dunning.hold (account_id COLLATE "C") WHERE released_at IS NULL;

-- A stage declared done by a person.
CREATE TABLE dunning.waiver (
    account_id text NOT NULL,
    item_id text NOT NULL,
    stage text NOT NULL,
    waived_on date NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    waived_by text NOT NULL,
    waived_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (item_id, stage)
);

-- Something for a person; one open task per cause.
CREATE TABLE dunning.task (
    task_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    creditor text NOT NULL,
    account_id text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    text text NOT NULL,
    opened_on date NOT NULL,
    closed_at timestamptz
);
CREATE UNIQUE INDEX one_open_task_per_cause ON dunning.task (creditor, account_id, kind, subject) WHERE closed_at IS NULL;

-- The stop for everything: one row, changed by `pause` and `resume`.
CREATE TABLE dunning.pause (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    reason text,
    since timestamptz,
    by_person text
);
INSERT INTO dunning.pause DEFAULT VALUES;

-- The items that were seen open, to notice when one vanishes.
CREATE TABLE dunning.known_item (
    item_id text PRIMARY KEY,
    creditor text NOT NULL,
    account_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'settled', 'withdrawn')),
    fingerprint text NOT NULL,
    seen_on date NOT NULL,
    withdrawn_on date
);
CREATE INDEX known_item_of_creditor ON dunning.known_item (creditor, state);
CREATE INDEX withdrawn_item_of_account ON dunning.known_item (account_id) WHERE state = 'withdrawn';

-- The contact log. Rows come in only through dunning.append.
CREATE TABLE dunning.event (
    seq bigint PRIMARY KEY,
    bytes bytea NOT NULL,
    leaf_hash bytea NOT NULL,
    chain_hash bytea NOT NULL,
    -- For look-ups; the bytes are what counts.
    kind text NOT NULL,
    account_id text,
    notice_id uuid,
    at timestamptz NOT NULL
);
CREATE INDEX event_of_account ON dunning.event (account_id, seq);
CREATE INDEX event_of_notice ON dunning.event (notice_id, seq) WHERE notice_id IS NOT NULL;

CREATE TABLE dunning.event_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq bigint NOT NULL,
    chain_hash bytea NOT NULL
);
INSERT INTO dunning.event_head (seq, chain_hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- Appends events in canonical JSON, as the last statement before COMMIT. The head row is locked until then, so numbers
-- have no gaps and the chain cannot fork. The session user is written by the database, not by the caller.
CREATE FUNCTION dunning.append(events text[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $append$
DECLARE
    head_seq bigint;
    head_hash bytea;
    one text;
    event jsonb;
    now_at timestamptz;
    line bytea;
    leaf bytea;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'dunning.append needs READ COMMITTED' USING ERRCODE = '25001';
    END IF;
    SELECT h.seq, h.chain_hash INTO STRICT head_seq, head_hash FROM dunning.event_head h FOR UPDATE;
    now_at := clock_timestamp();
    FOREACH one IN ARRAY events LOOP
        event := one::jsonb;
        IF jsonb_typeof(event) <> 'object' OR event ->> 'kind' IS NULL OR event ->> 'facts' IS NULL
            OR event ? 'session_user' OR right(one, 1) <> '}' THEN
            RAISE EXCEPTION 'an event is an object with kind and facts, and without session_user';
        END IF;
        head_seq := head_seq + 1;
        line := convert_to(
            '{"at":"' || to_char(now_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            || '","event":' || left(one, -1) || ',"session_user":' || to_json(session_user::text)::text
            || '},"seq":"' || head_seq || '","v":"1"}', 'UTF8');
        leaf := sha256('\x00'::bytea || line);
        head_hash := sha256(head_hash || leaf);
        INSERT INTO dunning.event (seq, bytes, leaf_hash, chain_hash, kind, account_id, notice_id, at)
        VALUES (head_seq, line, leaf, head_hash, event ->> 'kind', event ->> 'account',
                (event ->> 'notice')::uuid, now_at);
    END LOOP;
    UPDATE dunning.event_head SET seq = head_seq, chain_hash = head_hash;
    RETURN head_seq;
END
$append$;

-- What was open on an item at the end of a day, in a ledger that only knows today: from the settlements when there are
-- any, else all of it until the day it was settled.
CREATE FUNCTION dunning.open_as_of(of_item text, amount numeric, open_now numeric, settled_on date, as_of date)
RETURNS numeric
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $open$
DECLARE
    booked numeric;
BEGIN
    IF settled_on <= as_of THEN
        RETURN 0;
    END IF;
    IF to_regclass('ledger.settlement') IS NOT NULL THEN
        SELECT sum(s.amount::numeric) FILTER (WHERE s.booked_on::date <= as_of)
        INTO booked FROM ledger.settlement s WHERE s.item_id::text = of_item HAVING count(*) > 0;
        IF FOUND THEN
            RETURN amount - coalesce(booked, 0);
        END IF;
    END IF;
    RETURN CASE WHEN settled_on IS NULL THEN open_now ELSE amount END;
END
$open$;

-- What the ledger says about a claim, in one hash: the demanded items, the account's credits and payments, and every
-- hold on them. Compared once more just before DATA; `as_of` sees the ledger as it stood on that day.
CREATE FUNCTION dunning.ledger_fingerprint(for_account text, demanded text[], as_of date, at_date date) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $fingerprint$
    SELECT encode(sha256(convert_to(coalesce(string_agg(line, E'\n' ORDER BY line COLLATE "C"), ''), 'UTF8')), 'hex')
    FROM (
        SELECT concat_ws('|', 'item', i.item_id::text,
            trim_scale(CASE WHEN as_of IS NULL THEN i.open_amount::numeric
                            ELSE dunning.open_as_of(i.item_id::text, i.amount::numeric, i.open_amount::numeric,
                                                    i.settled_on::date, as_of) END)::text,
            coalesce(i.due_date::text, '-'),
            coalesce(CASE WHEN as_of IS NULL OR i.written_off_on::date <= as_of THEN i.written_off_on::text END, '-'),
            coalesce(CASE WHEN as_of IS NULL OR i.disputed_since::date <= as_of THEN i.disputed_since::text END, '-'),
            coalesce(i.hold_until::text, '-'), coalesce(i.hold_reason, '-'), coalesce(i.payee, '-'),
            coalesce(i.direct_debit_on::text, '-')) AS line
        FROM ledger.item i
        WHERE i.account_id::text COLLATE "C" = for_account
          AND (i.item_id::text = ANY (demanded) OR i.kind::text IN ('credit_note', 'payment'))
          AND (as_of IS NULL OR i.issue_date::date <= as_of)
          AND (i.item_id::text = ANY (demanded) OR i.open_amount::numeric <> 0)
        UNION ALL
        SELECT concat_ws('|', 'account', a.account_id::text, coalesce(a.hold_until::text, '-'),
                         coalesce(a.hold_reason, '-'))
        FROM ledger.account a WHERE a.account_id::text COLLATE "C" = for_account
        UNION ALL
        SELECT concat_ws('|', 'hold', h.hold_id::text)
        FROM dunning.hold h
        WHERE h.account_id COLLATE "C" = for_account AND h.released_at IS NULL
          AND (h.item_id IS NULL OR h.item_id = ANY (demanded))
          AND (h.until IS NULL OR h.until >= at_date)
    ) lines
$fingerprint$;

REVOKE ALL ON FUNCTION dunning.append(text[]) FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA dunning FROM PUBLIC;
GRANT USAGE ON SCHEMA dunning TO dunningd_app, dunningd_auditor;
GRANT EXECUTE ON FUNCTION dunning.append(text[]) TO dunningd_app;
GRANT SELECT ON ALL TABLES IN SCHEMA dunning TO dunningd_app, dunningd_auditor;
GRANT INSERT ON dunning.text, dunning.run, dunning.debt_case, dunning.decision, dunning.notice, dunning.notice_item,
    dunning.message, dunning.attempt, dunning.hold, dunning.waiver, dunning.task, dunning.known_item TO dunningd_app;
GRANT UPDATE ON dunning.run, dunning.debt_case, dunning.notice, dunning.notice_item, dunning.attempt, dunning.hold,
    dunning.task, dunning.pause, dunning.known_item TO dunningd_app;
