-- The log becomes provable to strangers, and what is personal can be erased without harming it.

-- Signed checkpoints: the log had so many events, and this was the root of its Merkle tree. Append-only. The right edge
-- of the tree lets the next one begin where this one ended; both are checked against the signed root.
CREATE TABLE dunning.checkpoint (
    size bigint PRIMARY KEY CHECK (size > 0),
    -- C2SP tlog-checkpoint, exactly as signed.
    note text NOT NULL,
    verifier_key text NOT NULL,
    edge bytea[] NOT NULL,
    chain_hash bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What must be kept because of a dispute, an audit or a court, whatever anybody asks to have erased.
CREATE TABLE dunning.legal_hold (
    legal_hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    creditor text NOT NULL,
    account_id text NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    placed_by text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lifted_by text,
    lifted_at timestamptz,
    lift_reason text
);
CREATE UNIQUE INDEX one_open_legal_hold ON dunning.legal_hold (account_id) WHERE lifted_at IS NULL;

-- A decision without its detail: the detail was erased.
ALTER TABLE dunning.decision ALTER COLUMN detail DROP NOT NULL;

-- Deletes personal data of an account and says so in the log, in one call: nobody can do the one without the other. As
-- with dunning.append, which it calls, it is the last statement before COMMIT. `classes`: messages (letters, recipients,
-- the snapshots and the reasoning behind them, the words of tasks), notes, smtp (what relays answered). `before` leaves
-- what is younger; without it everything goes. Returns the number of the event, or NULL when there was nothing to erase.
-- What must not be erased yet has the code DU001 (notices on their way) or DU002 (legal hold).
CREATE FUNCTION dunning.erase(of_account text, of_creditor text, classes text[], before timestamptz, why text, ground text,
                              os_user text, person text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $erase$
DECLARE
    of_notices uuid[];
    mailboxes text[];
    messages bigint := 0;
    decisions bigint := 0;
    tasks bigint := 0;
    notes bigint := 0;
    replies bigint := 0;
BEGIN
    IF NOT classes <@ ARRAY['messages', 'notes', 'smtp'] OR why = '' OR ground = '' OR person = '' THEN
        RAISE EXCEPTION 'an erasure names classes that exist, a reason, a legal ground and a person';
    END IF;
    -- Whoever places a legal hold meanwhile waits, and whoever comes later finds the data gone and the event.
    LOCK TABLE dunning.legal_hold IN SHARE MODE;
    IF EXISTS (SELECT FROM dunning.legal_hold WHERE account_id = of_account AND lifted_at IS NULL) THEN
        RAISE EXCEPTION 'account % is under a legal hold', of_account USING ERRCODE = 'DU002';
    END IF;
    PERFORM FROM dunning.notice WHERE account_id COLLATE "C" = of_account ORDER BY notice_id FOR UPDATE;
    IF before IS NULL AND EXISTS (SELECT FROM dunning.notice WHERE account_id COLLATE "C" = of_account
            AND state NOT IN ('accepted', 'refused', 'cancelled', 'bounced', 'delivered', 'replied', 'done', 'lapsed')) THEN
        RAISE EXCEPTION 'notices of account % are on their way or of unknown outcome', of_account USING ERRCODE = 'DU001';
    END IF;
    SELECT coalesce(array_agg(notice_id), '{}'), coalesce(array_agg(DISTINCT recipient_key), '{}')
    INTO of_notices, mailboxes FROM dunning.notice
    WHERE account_id COLLATE "C" = of_account AND (before IS NULL OR changed_at < before)
      AND state IN ('accepted', 'refused', 'cancelled', 'bounced', 'delivered', 'replied', 'done', 'lapsed');

    IF 'messages' = ANY (classes) THEN
        DELETE FROM dunning.message WHERE notice_id = ANY (of_notices);
        GET DIAGNOSTICS messages = ROW_COUNT;
        DELETE FROM dunning.letter_copy WHERE notice_id = ANY (of_notices);
        DELETE FROM dunning.contact_data c USING dunning.contact_entry e
        WHERE e.entry_id = c.entry_id AND e.account_id COLLATE "C" = of_account
          AND (before IS NULL OR e.ended_at < before);
        UPDATE dunning.notice SET recipient_key = '' WHERE notice_id = ANY (of_notices) AND recipient_key <> '';
        -- The hash of a decision is over its recipient too, and a hash of an address can be guessed.
        UPDATE dunning.decision d SET detail = NULL, identity_sha256 = ''
        WHERE d.account_id = of_account AND d.detail IS NOT NULL
          AND (before IS NULL OR EXISTS (SELECT FROM dunning.run r WHERE r.run_id = d.run_id AND r.started_at < before));
        GET DIAGNOSTICS decisions = ROW_COUNT;
        UPDATE dunning.task t SET text = '', subject = CASE WHEN t.account_id = of_account THEN subject ELSE '' END,
            closed_at = CASE WHEN t.account_id = of_account THEN closed_at ELSE coalesce(closed_at, clock_timestamp()) END
        WHERE (t.account_id = of_account OR t.kind = 'shared_mailbox' AND t.subject = ANY (mailboxes) AND t.subject <> '')
          AND t.text <> '' AND (before IS NULL OR t.closed_at < before);
        GET DIAGNOSTICS tasks = ROW_COUNT;
    END IF;
    IF 'notes' = ANY (classes) THEN
        DELETE FROM dunning.note_text t USING dunning.note n
        WHERE n.note_id = t.note_id AND n.account_id COLLATE "C" = of_account AND (before IS NULL OR n.noted_at < before);
        GET DIAGNOSTICS notes = ROW_COUNT;
    END IF;
    -- The salt that ties a reply to the log goes with its message, so the reply goes too.
    IF classes && ARRAY['messages', 'smtp'] THEN
        UPDATE dunning.attempt SET reply_text = NULL, detail = NULL
        WHERE notice_id = ANY (of_notices) AND (reply_text IS NOT NULL OR detail IS NOT NULL);
        GET DIAGNOSTICS replies = ROW_COUNT;
    END IF;
    IF before IS NOT NULL AND messages + decisions + tasks + notes + replies = 0 THEN
        RETURN NULL;
    END IF;
    -- Canonical as every event: sorted keys, no white space, every number a string.
    RETURN dunning.append(ARRAY[
        '{"account":' || to_json(of_account)::text || ',"creditor":' || to_json(of_creditor)::text
        || ',"facts":{"before":' || coalesce(to_json(to_char(before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text, 'null')
        || ',"classes":' || (SELECT '[' || string_agg(to_json(one)::text, ',' ORDER BY one) || ']' FROM unnest(classes) AS one)
        || ',"decisions":"' || decisions || '","legal_ground":' || to_json(ground)::text || ',"messages":"' || messages
        || '","notes":"' || notes || '","reason":' || to_json(why)::text || ',"replies":"' || replies
        || '","tasks":"' || tasks || '"},"kind":"redacted","os_user":' || to_json(os_user)::text
        || ',"person":' || to_json(person)::text || '}']);
END
$erase$;

REVOKE ALL ON FUNCTION dunning.erase(text, text, text[], timestamptz, text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dunning.erase(text, text, text[], timestamptz, text, text, text, text) TO dunningd_app;
REVOKE ALL ON dunning.checkpoint, dunning.legal_hold FROM PUBLIC;
GRANT SELECT ON dunning.checkpoint, dunning.legal_hold TO dunningd_app, dunningd_auditor;
GRANT INSERT ON dunning.checkpoint, dunning.legal_hold TO dunningd_app;
GRANT UPDATE (lifted_by, lifted_at, lift_reason) ON dunning.legal_hold TO dunningd_app;
