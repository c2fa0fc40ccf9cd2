-- What is erased can be held against the log thing by thing, reaches everything that is personal, and leaves nothing that
-- an event does not count. And the daemon's role changes of what people and runs recorded only what is meant to change.
SET LOCAL check_function_bodies = off;

-- When an account that has left the ledger was last seen there; NULL for one that was never seen.
CREATE FUNCTION dunning.last_seen(of_account text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $seen$
    SELECT greatest(
        (SELECT max(greatest(k.seen_on, k.withdrawn_on)) FROM dunning.known_item k WHERE k.account_id = of_account)::timestamp AT TIME ZONE 'UTC',
        (SELECT max(r.started_at) FROM dunning.decision d JOIN dunning.run r USING (run_id) WHERE d.account_id = of_account),
        (SELECT max(e.entered_at) FROM dunning.contact_entry e WHERE e.account_id = of_account))
$seen$;

-- Deletes personal data of an account and says so in the log, in one call: nobody can do the one without the other. As
-- with dunning.append, which it calls, it is the last statement before COMMIT. `classes`: messages (letters, recipients,
-- the snapshots and the reasoning behind them, contacts, the words of tasks), notes, smtp (what relays answered). `before`
-- leaves what is younger; without it everything goes. By whole seconds, and of what the log has told by then: so the log
-- alone shows what may be missing. `mailboxes`: addresses that the ledger has of the account. `gone`: the ledger does not
-- know the account any more, so that what was entered about it ended when it was last seen. Returns the number of the
-- event, or NULL when there was nothing to erase. What must not be erased yet has the code DU001 (notices on their way) or
-- DU002 (legal hold).
DROP FUNCTION dunning.erase(text, text, text[], timestamptz, text, text, text, text);
CREATE FUNCTION dunning.erase(of_account text, of_creditor text, classes text[], before timestamptz, mailboxes text[],
                              gone boolean, why text, ground text, os_user text, person text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $erase$
DECLARE
    of_notices uuid[];
    shared bigint[];
    messages bigint := 0;
    contacts bigint := 0;
    decisions bigint := 0;
    tasks bigint := 0;
    notes bigint := 0;
    replies bigint := 0;
BEGIN
    IF NOT classes <@ ARRAY['messages', 'notes', 'smtp'] OR why = '' OR ground = '' OR person = '' THEN
        RAISE EXCEPTION 'an erasure names classes that exist, a reason, a legal ground and a person';
    END IF;
    before := date_trunc('second', before);
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
    SELECT coalesce(array_agg(notice_id), '{}') INTO of_notices FROM dunning.notice n
    WHERE account_id COLLATE "C" = of_account AND (before IS NULL OR changed_at < before
              AND NOT EXISTS (SELECT FROM dunning.event e WHERE e.notice_id = n.notice_id AND e.at >= before))
      AND state IN ('accepted', 'refused', 'cancelled', 'bounced', 'delivered', 'replied', 'done', 'lapsed');

    IF 'messages' = ANY (classes) THEN
        -- Tasks about a mailbox belong to nobody: those about one of this account, wherever it was known from.
        SELECT coalesce(array_agg(t.task_id), '{}') INTO shared FROM dunning.task t
        WHERE t.kind = 'shared_mailbox' AND t.subject <> ''
          AND (t.subject = ANY (mailboxes)
               OR EXISTS (SELECT FROM dunning.notice n
                          WHERE n.account_id COLLATE "C" = of_account AND n.recipient_key = t.subject)
               OR EXISTS (SELECT FROM dunning.contact_data c JOIN dunning.contact_entry e USING (entry_id)
                          WHERE e.account_id = of_account AND lower(c.email) = t.subject)
               OR EXISTS (SELECT FROM dunning.decision d
                          WHERE d.account_id = of_account
                            AND strpos(lower(d.detail::text), to_json(t.subject)::text) > 0));
        DELETE FROM dunning.message WHERE notice_id = ANY (of_notices);
        GET DIAGNOSTICS messages = ROW_COUNT;
        DELETE FROM dunning.letter_copy WHERE notice_id = ANY (of_notices);
        DELETE FROM dunning.contact_data c USING dunning.contact_entry e
        WHERE e.entry_id = c.entry_id AND e.account_id = of_account
          AND (before IS NULL OR e.ended_at < before
               OR e.ended_at IS NULL AND gone AND dunning.last_seen(of_account) < before - interval '1 day');
        GET DIAGNOSTICS contacts = ROW_COUNT;
        UPDATE dunning.notice SET recipient_key = '' WHERE notice_id = ANY (of_notices) AND recipient_key <> '';
        -- The hash of a decision is over its recipient too, and a hash of an address can be guessed.
        UPDATE dunning.decision d SET detail = NULL, identity_sha256 = ''
        WHERE d.account_id = of_account AND d.detail IS NOT NULL
          AND (before IS NULL OR EXISTS (SELECT FROM dunning.run r WHERE r.run_id = d.run_id AND r.started_at < before));
        GET DIAGNOSTICS decisions = ROW_COUNT;
        UPDATE dunning.task t SET text = '', subject = CASE WHEN t.account_id = of_account THEN subject ELSE '' END,
            closed_at = CASE WHEN t.account_id = of_account THEN closed_at ELSE coalesce(closed_at, clock_timestamp()) END
        WHERE (t.account_id = of_account OR t.task_id = ANY (shared))
          AND t.text <> '' AND (before IS NULL OR t.closed_at < before);
        GET DIAGNOSTICS tasks = ROW_COUNT;
    END IF;
    IF 'notes' = ANY (classes) THEN
        DELETE FROM dunning.note_text t USING dunning.note n
        WHERE n.note_id = t.note_id AND n.account_id COLLATE "C" = of_account
          AND (before IS NULL OR n.noted_at < before
               AND NOT EXISTS (SELECT FROM dunning.event e
                               WHERE e.account_id = of_account AND e.at >= before
                                 AND convert_from(e.bytes, 'UTF8')::jsonb #>> '{event,facts,note}' = n.note_id::text));
        GET DIAGNOSTICS notes = ROW_COUNT;
    END IF;
    -- The salt that ties a reply to the log goes with its message, so the reply goes too.
    IF classes && ARRAY['messages', 'smtp'] THEN
        UPDATE dunning.attempt SET reply_text = NULL, detail = NULL
        WHERE notice_id = ANY (of_notices) AND (reply_text IS NOT NULL OR detail IS NOT NULL);
        GET DIAGNOSTICS replies = ROW_COUNT;
    END IF;
    IF before IS NOT NULL AND messages + contacts + decisions + tasks + notes + replies = 0 THEN
        RETURN NULL;
    END IF;
    -- Canonical as every event: sorted keys, no white space, every number a string.
    RETURN dunning.append(ARRAY[
        '{"account":' || to_json(of_account)::text || ',"creditor":' || to_json(of_creditor)::text
        || ',"facts":{"before":' || coalesce(to_json(to_char(before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text, 'null')
        || ',"classes":' || (SELECT '[' || string_agg(to_json(one)::text, ',' ORDER BY one) || ']' FROM unnest(classes) AS one)
        || ',"contacts":"' || contacts || '","decisions":"' || decisions || '","legal_ground":' || to_json(ground)::text
        || ',"messages":"' || messages || '","notes":"' || notes || '","reason":' || to_json(why)::text || ',"replies":"'
        || replies || '","tasks":"' || tasks || '"},"kind":"redacted","os_user":' || to_json(os_user)::text
        || ',"person":' || to_json(person)::text || '}']);
END
$erase$;

REVOKE ALL ON FUNCTION dunning.erase(text, text, text[], timestamptz, text[], boolean, text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dunning.erase(text, text, text[], timestamptz, text[], boolean, text, text, text, text)
    TO dunningd_app;

-- Who recorded something, when, about whom and why is written once.
REVOKE UPDATE ON dunning.hold, dunning.attempt, dunning.notice, dunning.notice_item, dunning.task, dunning.run,
    dunning.debt_case, dunning.pause FROM dunningd_app;
GRANT UPDATE (released_by, released_at, release_reason) ON dunning.hold TO dunningd_app;
GRANT UPDATE (outcome, phase, reply_code, reply_text, detail, ended_at) ON dunning.attempt TO dunningd_app;
GRANT UPDATE (state, reason, not_before, valid_until, tries, next_try_at, lease_token, lease_until, counted_on, accepted_on,
    approval, approved_by, approved_at, channel, lapses_on, attempts, resend_of, changed_at) ON dunning.notice TO dunningd_app;
GRANT UPDATE (live) ON dunning.notice_item TO dunningd_app;
GRANT UPDATE (closed_at) ON dunning.task TO dunningd_app;
GRANT UPDATE (state, reason, totals, digest, completed_at, release, brakes, ramp_limit, forecast) ON dunning.run
    TO dunningd_app;
GRANT UPDATE (ladder_sha256, closed_on) ON dunning.debt_case TO dunningd_app;
GRANT UPDATE (reason, since, by_person) ON dunning.pause TO dunningd_app;
