-- Release: what a run decided goes out only when the mode, the brakes and, where asked, a person let it.

-- How far the daemon may go by itself; one row, changed by `dunningd mode`.
CREATE TABLE dunning.control (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    mode text NOT NULL DEFAULT 'approve_all' CHECK (mode IN ('shadow', 'approve_all', 'live')),
    reason text,
    since timestamptz,
    by_person text
);
INSERT INTO dunning.control DEFAULT VALUES;

-- The databases that may send, each as one host knows it. A copy is another one until somebody adopts it.
CREATE TABLE dunning.adoption (
    system_identifier text NOT NULL,
    database_name text NOT NULL,
    host_id text NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    adopted_by text NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (system_identifier, database_name, host_id)
);

ALTER TABLE dunning.run
    -- The login that asked for it; null when the schedule did.
    ADD COLUMN asked_by text,
    -- It looked at some accounts only, and says nothing about the others.
    ADD COLUMN partial boolean NOT NULL DEFAULT false,
    ADD COLUMN release text CHECK (release IN ('shadow', 'approve_all', 'released', 'ramped', 'held', 'approved',
        'dropped')),
    -- What braked it: codes, numbers and words.
    ADD COLUMN brakes jsonb NOT NULL DEFAULT '[]',
    -- How many notices a ramp let out at most.
    ADD COLUMN ramp_limit bigint,
    -- How many contacts it expects of the next working day.
    ADD COLUMN forecast bigint;

ALTER TABLE dunning.notice
    -- Why a person has to agree; null where none has to.
    ADD COLUMN approval text,
    ADD COLUMN approved_by text,
    ADD COLUMN approved_at timestamptz,
    -- It goes to a mailbox of our own and is no contact with the debtor.
    ADD COLUMN redirected boolean NOT NULL DEFAULT false;
CREATE INDEX notice_awaiting_approval ON dunning.notice (creditor) WHERE state = 'awaiting_approval';
CREATE INDEX notice_of_run ON dunning.notice (run_id);

-- The bank accounts that letters named last: the creditor's own per currency (account_id is empty), and per account.
CREATE TABLE dunning.requisites (
    creditor text NOT NULL,
    account_id text NOT NULL,
    currency text NOT NULL,
    bank_account text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (creditor, account_id, currency)
);

-- The bank accounts that a letter names, per currency.
CREATE FUNCTION dunning.bank_accounts(letter jsonb) RETURNS TABLE (currency text, bank_account text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $accounts$
    SELECT demand ->> 'currency',
           string_agg(DISTINCT coalesce(demand #>> '{payee,iban}', demand #>> '{payee,number}'), ', ')
    FROM jsonb_array_elements(letter -> 'demands') AS demand
    GROUP BY 1
$accounts$;

REVOKE ALL ON dunning.control, dunning.adoption, dunning.requisites FROM PUBLIC;
GRANT SELECT ON dunning.control, dunning.adoption, dunning.requisites TO dunningd_app, dunningd_auditor;
GRANT INSERT ON dunning.adoption, dunning.requisites TO dunningd_app;
GRANT UPDATE (mode, reason, since, by_person) ON dunning.control TO dunningd_app;
GRANT UPDATE (bank_account, since) ON dunning.requisites TO dunningd_app;
