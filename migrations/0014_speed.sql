-- The same hash as before, from a function whose plan each connection keeps: the last check asks it of every notice, and
-- planning it anew took longer than answering it. Parameters carry the function's name, so that no column of an operator's
-- view is taken for one of them.
SET LOCAL check_function_bodies = off;

CREATE OR REPLACE FUNCTION dunning.ledger_fingerprint(for_account text, demanded text[], as_of date, at_date date)
RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $fingerprint$
<<claim>>
DECLARE
    items text[] := demanded;
BEGIN
    -- Looked for in all of them at once: seldom there, and "behind" looks closer.
    IF strpos(array_to_string(demanded, ' '), 'plan:') > 0 THEN
        items := dunning.behind(for_account, demanded);
    END IF;
    RETURN (
        SELECT encode(sha256(convert_to(coalesce(string_agg(line, E'\n' ORDER BY line COLLATE "C"), ''), 'UTF8')), 'hex')
        FROM (
            SELECT concat_ws('|', 'item', i.item_id::text,
                trim_scale(CASE WHEN ledger_fingerprint.as_of IS NULL THEN i.open_amount::numeric
                                ELSE dunning.open_as_of(i.item_id::text, i.amount::numeric, i.open_amount::numeric,
                                                        i.settled_on::date, ledger_fingerprint.as_of) END)::text,
                coalesce(i.due_date::text, '-'),
                coalesce(CASE WHEN ledger_fingerprint.as_of IS NULL OR i.written_off_on::date <= ledger_fingerprint.as_of
                              THEN i.written_off_on::text END, '-'),
                coalesce(CASE WHEN ledger_fingerprint.as_of IS NULL OR i.disputed_since::date <= ledger_fingerprint.as_of
                              THEN i.disputed_since::text END, '-'),
                coalesce(i.hold_until::text, '-'), coalesce(i.hold_reason, '-'), coalesce(i.payee, '-'),
                coalesce(i.direct_debit_on::text, '-')) AS line
            FROM ledger.item i
            WHERE i.account_id::text COLLATE "C" = ledger_fingerprint.for_account
              AND (i.item_id::text = ANY (claim.items) OR i.kind::text IN ('credit_note', 'payment'))
              AND (ledger_fingerprint.as_of IS NULL OR i.issue_date::date <= ledger_fingerprint.as_of)
              AND (i.item_id::text = ANY (claim.items) OR i.open_amount::numeric <> 0)
            UNION ALL
            SELECT concat_ws('|', 'account', a.account_id::text, coalesce(a.hold_until::text, '-'),
                             coalesce(a.hold_reason, '-'))
            FROM ledger.account a WHERE a.account_id::text COLLATE "C" = ledger_fingerprint.for_account
            UNION ALL
            SELECT concat_ws('|', 'hold', h.hold_id::text)
            FROM dunning.hold h
            WHERE h.account_id COLLATE "C" = ledger_fingerprint.for_account AND h.released_at IS NULL
              AND (h.item_id IS NULL OR h.item_id = ANY (claim.items))
              AND (h.until IS NULL OR h.until >= ledger_fingerprint.at_date)
            UNION ALL
            SELECT concat_ws('|', 'waiver', w.item_id, w.stage)
            FROM dunning.waiver w WHERE w.item_id = ANY (claim.items)
            UNION ALL
            SELECT concat_ws('|', 'handover', o.handover_id::text)
            FROM dunning.handover o
            WHERE o.account_id COLLATE "C" = ledger_fingerprint.for_account AND o.back_at IS NULL
            UNION ALL
            SELECT concat_ws('|', 'promise', p.promise_id::text)
            FROM dunning.promise p
            WHERE p.account_id COLLATE "C" = ledger_fingerprint.for_account AND p.withdrawn_at IS NULL
              AND p.by_day + p.tolerance_days >= ledger_fingerprint.at_date
              AND EXISTS (SELECT FROM dunning.promise_item i
                          WHERE i.promise_id = p.promise_id AND i.item_id = ANY (claim.items))
            UNION ALL
            SELECT concat_ws('|', 'write_off', w.write_off_id::text)
            FROM dunning.write_off w
            WHERE w.account_id COLLATE "C" = ledger_fingerprint.for_account AND w.undone_at IS NULL
              AND w.item_id = ANY (claim.items)
            UNION ALL
            SELECT concat_ws('|', 'cause', c.cause_id::text)
            FROM dunning.cause c
            WHERE c.account_id COLLATE "C" = ledger_fingerprint.for_account AND c.cleared_at IS NULL
              AND (c.item_id IS NULL OR c.item_id = ANY (claim.items))
            UNION ALL
            SELECT concat_ws('|', 'contact', e.entry_id::text)
            FROM dunning.contact_entry e
            WHERE e.account_id COLLATE "C" = ledger_fingerprint.for_account AND e.ended_at IS NULL
            UNION ALL
            SELECT concat_ws('|', 'plan', p.plan_id::text, p.version::text)
            FROM dunning.plan p
            WHERE p.account_id COLLATE "C" = ledger_fingerprint.for_account AND p.ended_at IS NULL
              AND EXISTS (SELECT FROM dunning.plan_item i
                          WHERE i.plan_id = p.plan_id AND i.version = p.version
                            AND i.item_id = ANY (claim.items))
        ) lines
    );
END
$fingerprint$;
