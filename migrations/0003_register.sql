-- The register of a credit controller: what people record about an account, each with person and reason. Nothing is
-- deleted; what ends keeps its row and says who ended it.

-- The business date on which a stage was waived; `waived_on` is the date it was due and counts as its completion.
ALTER TABLE dunning.waiver ADD COLUMN since date;
UPDATE dunning.waiver SET since = waived_on;
ALTER TABLE dunning.waiver ALTER COLUMN since SET NOT NULL;
CREATE INDEX waiver_of_account ON dunning.waiver (account_id);

-- A dispute is a hold on an item with a cause.
ALTER TABLE dunning.hold ADD COLUMN cause text CHECK (cause <> ''),
    ADD CONSTRAINT a_dispute_is_about_an_item CHECK (cause IS NULL OR item_id IS NOT NULL);
CREATE UNIQUE INDEX one_open_dispute ON dunning.hold (item_id) WHERE cause IS NOT NULL AND released_at IS NULL;

-- Accounts that somebody else pursues: no automatic contact until one is taken back.
CREATE TABLE dunning.handover (
    handover_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    creditor text NOT NULL,
    account_id text NOT NULL,
    handed_to text NOT NULL CHECK (handed_to <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    since date NOT NULL,
    handed_by text NOT NULL,
    handed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    back_by text,
    back_at timestamptz,
    back_reason text
);
CREATE UNIQUE INDEX one_open_handover ON dunning.handover (account_id) WHERE back_at IS NULL;
CREATE INDEX handover_of_account ON dunning.handover (account_id COLLATE "C") WHERE back_at IS NULL;

-- What a debtor promised to pay by a day. Whether it was kept follows from what was paid since.
CREATE TABLE dunning.promise (
    promise_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    creditor text NOT NULL,
    account_id text NOT NULL,
    amount numeric NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    made_on date NOT NULL,
    by_day date NOT NULL CHECK (by_day >= made_on),
    tolerance_days int NOT NULL CHECK (tolerance_days >= 0),
    reason text NOT NULL CHECK (reason <> ''),
    made_by text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    withdrawn_by text,
    withdrawn_at timestamptz,
    withdrawn_reason text
);
CREATE INDEX promise_of_account ON dunning.promise (account_id COLLATE "C");

-- The items of a promise, with what was open on each when it was made.
CREATE TABLE dunning.promise_item (
    promise_id bigint NOT NULL REFERENCES dunning.promise,
    item_id text NOT NULL,
    open_then numeric NOT NULL CHECK (open_then > 0),
    PRIMARY KEY (promise_id, item_id)
);

-- Telephone calls that a person made; each counts as a contact.
CREATE TABLE dunning.call (
    call_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    creditor text NOT NULL,
    account_id text NOT NULL,
    outcome text NOT NULL,
    called_on date NOT NULL,
    called_by text NOT NULL,
    called_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX call_of_account ON dunning.call (account_id COLLATE "C");

-- Notes about an account, by themselves or on a call.
CREATE TABLE dunning.note (
    note_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    creditor text NOT NULL,
    account_id text NOT NULL,
    call_id bigint REFERENCES dunning.call,
    noted_on date NOT NULL,
    noted_by text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX note_of_account ON dunning.note (account_id COLLATE "C");

-- The words of a note are personal data: erasing them leaves the log verifiable.
CREATE TABLE dunning.note_text (
    note_id bigint PRIMARY KEY REFERENCES dunning.note,
    body text NOT NULL CHECK (body <> ''),
    salt bytea NOT NULL
);

-- As before, and also what people recorded since. Where they recorded nothing of it, the hash is the one it always was,
-- so that notices queued before this migration still go out.
CREATE OR REPLACE FUNCTION dunning.ledger_fingerprint(for_account text, demanded text[], as_of date, at_date date)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $fingerprint$
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
        UNION ALL
        SELECT concat_ws('|', 'waiver', w.item_id, w.stage)
        FROM dunning.waiver w WHERE w.item_id = ANY (demanded)
        UNION ALL
        SELECT concat_ws('|', 'handover', o.handover_id::text)
        FROM dunning.handover o WHERE o.account_id COLLATE "C" = for_account AND o.back_at IS NULL
        UNION ALL
        SELECT concat_ws('|', 'promise', p.promise_id::text)
        FROM dunning.promise p
        WHERE p.account_id COLLATE "C" = for_account AND p.withdrawn_at IS NULL
          AND p.by_day + p.tolerance_days >= at_date
          AND EXISTS (SELECT FROM dunning.promise_item i
                      WHERE i.promise_id = p.promise_id AND i.item_id = ANY (demanded))
    ) lines
$fingerprint$;

REVOKE ALL ON dunning.handover, dunning.promise, dunning.promise_item, dunning.call, dunning.note,
    dunning.note_text FROM PUBLIC;
GRANT SELECT ON dunning.handover, dunning.promise, dunning.promise_item, dunning.call, dunning.note,
    dunning.note_text TO dunningd_app, dunningd_auditor;
GRANT INSERT ON dunning.handover, dunning.promise, dunning.promise_item, dunning.call, dunning.note,
    dunning.note_text TO dunningd_app;
GRANT UPDATE (back_by, back_at, back_reason) ON dunning.handover TO dunningd_app;
GRANT UPDATE (withdrawn_by, withdrawn_at, withdrawn_reason) ON dunning.promise TO dunningd_app;
