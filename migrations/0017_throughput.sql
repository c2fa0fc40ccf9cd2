-- Delivery moves a notice four times. While no index looks at what changes then, PostgreSQL writes the new row beside the
-- old one and touches no index: a column that seldom changes says in which line a notice stands, and the indexes ask that
-- instead of its state. Half of each page is left free for the new rows.
ALTER TABLE dunning.notice SET (fillfactor = 50);
ALTER TABLE dunning.notice ADD COLUMN waits_for text GENERATED ALWAYS AS (
    CASE WHEN state IN ('queued', 'deferred', 'claimed', 'in_flight') THEN 'delivery'
         WHEN state = 'awaiting_approval' THEN 'approval'
         WHEN state = 'unknown' THEN 'news' END) STORED;

DROP INDEX dunning.notice_to_send, dunning.notice_in_flight, dunning.notice_of_mailbox, dunning.notice_awaiting_approval,
    dunning.notice_to_send_again;
CREATE INDEX notice_to_send ON dunning.notice (created_at, notice_id) WHERE waits_for = 'delivery';
CREATE INDEX notice_of_mailbox ON dunning.notice (recipient_key);
CREATE INDEX notice_awaiting_approval ON dunning.notice (creditor) WHERE waits_for = 'approval';
CREATE INDEX notice_to_send_again ON dunning.notice (notice_id)
    WHERE waits_for = 'news' AND on_unknown = 'resend_once' AND resend_of IS NULL;

-- The same hash as before, of several claims with one plan: beginning the plan took longer than answering it. `demanded`
-- holds the items of each as the text of an array.
SET LOCAL check_function_bodies = off;

CREATE FUNCTION dunning.ledger_fingerprints(accounts text[], demanded text[], as_of date[], at_date date[])
RETURNS TABLE (place bigint, fingerprint text) LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp AS $fingerprints$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT one.place, (
            SELECT encode(sha256(convert_to(coalesce(string_agg(line, E'\n' ORDER BY line COLLATE "C"), ''), 'UTF8')), 'hex')
            FROM (
                SELECT concat_ws('|', 'item', i.item_id::text,
                    trim_scale(CASE WHEN one.as_of IS NULL THEN i.open_amount::numeric
                                    ELSE dunning.open_as_of(i.item_id::text, i.amount::numeric, i.open_amount::numeric,
                                                            i.settled_on::date, one.as_of) END)::text,
                    coalesce(i.due_date::text, '-'),
                    coalesce(CASE WHEN one.as_of IS NULL OR i.written_off_on::date <= one.as_of
                                  THEN i.written_off_on::text END, '-'),
                    coalesce(CASE WHEN one.as_of IS NULL OR i.disputed_since::date <= one.as_of
                                  THEN i.disputed_since::text END, '-'),
                    coalesce(i.hold_until::text, '-'), coalesce(i.hold_reason, '-'), coalesce(i.payee, '-'),
                    coalesce(i.direct_debit_on::text, '-')) AS line
                FROM ledger.item i
                WHERE i.account_id::text COLLATE "C" = one.account
                  AND (i.item_id::text = ANY (one.items) OR i.kind::text IN ('credit_note', 'payment'))
                  AND (one.as_of IS NULL OR i.issue_date::date <= one.as_of)
                  AND (i.item_id::text = ANY (one.items) OR i.open_amount::numeric <> 0)
                UNION ALL
                SELECT concat_ws('|', 'account', a.account_id::text, coalesce(a.hold_until::text, '-'),
                                 coalesce(a.hold_reason, '-'))
                FROM ledger.account a WHERE a.account_id::text COLLATE "C" = one.account
                UNION ALL
                SELECT concat_ws('|', 'hold', h.hold_id::text)
                FROM dunning.hold h
                WHERE h.account_id COLLATE "C" = one.account AND h.released_at IS NULL
                  AND (h.item_id IS NULL OR h.item_id = ANY (one.items))
                  AND (h.until IS NULL OR h.until >= one.at_date)
                UNION ALL
                SELECT concat_ws('|', 'waiver', w.item_id, w.stage)
                FROM dunning.waiver w WHERE w.item_id = ANY (one.items)
                UNION ALL
                SELECT concat_ws('|', 'handover', o.handover_id::text)
                FROM dunning.handover o
                WHERE o.account_id COLLATE "C" = one.account AND o.back_at IS NULL
                UNION ALL
                SELECT concat_ws('|', 'promise', p.promise_id::text)
                FROM dunning.promise p
                WHERE p.account_id COLLATE "C" = one.account AND p.withdrawn_at IS NULL
                  AND p.by_day + p.tolerance_days >= one.at_date
                  AND EXISTS (SELECT FROM dunning.promise_item i
                              WHERE i.promise_id = p.promise_id AND i.item_id = ANY (one.items))
                UNION ALL
                SELECT concat_ws('|', 'write_off', w.write_off_id::text)
                FROM dunning.write_off w
                WHERE w.account_id COLLATE "C" = one.account AND w.undone_at IS NULL
                  AND w.item_id = ANY (one.items)
                UNION ALL
                SELECT concat_ws('|', 'cause', c.cause_id::text)
                FROM dunning.cause c
                WHERE c.account_id COLLATE "C" = one.account AND c.cleared_at IS NULL
                  AND (c.item_id IS NULL OR c.item_id = ANY (one.items))
                UNION ALL
                SELECT concat_ws('|', 'contact', e.entry_id::text)
                FROM dunning.contact_entry e
                WHERE e.account_id COLLATE "C" = one.account AND e.ended_at IS NULL
                UNION ALL
                SELECT concat_ws('|', 'plan', p.plan_id::text, p.version::text)
                FROM dunning.plan p
                WHERE p.account_id COLLATE "C" = one.account AND p.ended_at IS NULL
                  AND EXISTS (SELECT FROM dunning.plan_item i
                              WHERE i.plan_id = p.plan_id AND i.version = p.version
                                AND i.item_id = ANY (one.items))
            ) lines
    )
    FROM (SELECT c.place, c.account, c.as_of, c.at_date,
                 -- Looked for in all of them at once: seldom there, and "behind" looks closer.
                 CASE WHEN strpos(c.demanded, 'plan:') > 0 THEN dunning.behind(c.account, c.demanded::text[])
                      ELSE c.demanded::text[] END AS items
          FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS c (account, demanded, as_of, at_date, place)
          -- Once for each, not once for each use.
          OFFSET 0) one;
END
$fingerprints$;

-- Of one claim.
CREATE OR REPLACE FUNCTION dunning.ledger_fingerprint(for_account text, demanded text[], as_of date, at_date date)
RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $fingerprint$
BEGIN
    RETURN (SELECT f.fingerprint FROM dunning.ledger_fingerprints(ARRAY[$1], ARRAY[$2::text], ARRAY[$3], ARRAY[$4]) f);
END
$fingerprint$;
