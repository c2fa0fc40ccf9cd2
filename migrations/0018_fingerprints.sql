-- The same hash as before for many claims in one statement: each claim alone had spent most of its time on beginning and
-- ending its own. What is asked of one account stays a query of its own, with the account in it, so that an operator's
-- view that adds up payments adds up those of one account and not of all. The plan is kept by each connection and looks
-- accounts up, whatever the server knows about tables that have just been filled.
SET LOCAL check_function_bodies = off;

CREATE FUNCTION dunning.ledger_fingerprints(accounts text[], demanded jsonb[], as_of date[], at_dates date[])
RETURNS TABLE (place bigint, fingerprint text) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $fingerprint$
BEGIN
    RETURN QUERY
    SELECT claim.n, said.hash
    FROM unnest(ledger_fingerprints.accounts, ledger_fingerprints.demanded, ledger_fingerprints.as_of,
                ledger_fingerprints.at_dates) WITH ORDINALITY AS claim (account, demanded, as_of, at_date, n)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN strpos(claim.demanded::text, '"plan:') > 0
                    THEN dunning.behind(claim.account, ARRAY(SELECT jsonb_array_elements_text(claim.demanded)))
                    ELSE ARRAY(SELECT jsonb_array_elements_text(claim.demanded)) END AS items OFFSET 0) behind
    CROSS JOIN LATERAL (
        SELECT encode(sha256(convert_to(coalesce(string_agg(line, E'\n' ORDER BY line COLLATE "C"), ''), 'UTF8')), 'hex') AS hash
        FROM (
            SELECT concat_ws('|', 'item', i.item_id::text,
                trim_scale(CASE WHEN claim.as_of IS NULL THEN i.open_amount::numeric
                                ELSE dunning.open_as_of(i.item_id::text, i.amount::numeric, i.open_amount::numeric,
                                                        i.settled_on::date, claim.as_of) END)::text,
                coalesce(i.due_date::text, '-'),
                coalesce(CASE WHEN claim.as_of IS NULL OR i.written_off_on::date <= claim.as_of
                              THEN i.written_off_on::text END, '-'),
                coalesce(CASE WHEN claim.as_of IS NULL OR i.disputed_since::date <= claim.as_of
                              THEN i.disputed_since::text END, '-'),
                coalesce(i.hold_until::text, '-'), coalesce(i.hold_reason, '-'), coalesce(i.payee, '-'),
                coalesce(i.direct_debit_on::text, '-')) AS line
            FROM ledger.item i
            WHERE i.account_id::text COLLATE "C" = claim.account
              AND (i.item_id::text = ANY (behind.items) OR i.kind::text IN ('credit_note', 'payment'))
              AND (claim.as_of IS NULL OR i.issue_date::date <= claim.as_of)
              AND (i.item_id::text = ANY (behind.items) OR i.open_amount::numeric <> 0)
            UNION ALL
            SELECT concat_ws('|', 'account', a.account_id::text, coalesce(a.hold_until::text, '-'),
                             coalesce(a.hold_reason, '-'))
            FROM ledger.account a WHERE a.account_id::text COLLATE "C" = claim.account
            UNION ALL
            SELECT concat_ws('|', 'hold', h.hold_id::text)
            FROM dunning.hold h
            WHERE h.account_id COLLATE "C" = claim.account AND h.released_at IS NULL
              AND (h.item_id IS NULL OR h.item_id = ANY (behind.items))
              AND (h.until IS NULL OR h.until >= claim.at_date)
            UNION ALL
            SELECT concat_ws('|', 'waiver', w.item_id, w.stage)
            FROM dunning.waiver w WHERE w.item_id = ANY (behind.items)
            UNION ALL
            SELECT concat_ws('|', 'handover', o.handover_id::text)
            FROM dunning.handover o
            WHERE o.account_id COLLATE "C" = claim.account AND o.back_at IS NULL
            UNION ALL
            SELECT concat_ws('|', 'promise', p.promise_id::text)
            FROM dunning.promise p
            WHERE p.account_id COLLATE "C" = claim.account AND p.withdrawn_at IS NULL
              AND p.by_day + p.tolerance_days >= claim.at_date
              AND EXISTS (SELECT FROM dunning.promise_item i
                          WHERE i.promise_id = p.promise_id AND i.item_id = ANY (behind.items))
            UNION ALL
            SELECT concat_ws('|', 'write_off', w.write_off_id::text)
            FROM dunning.write_off w
            WHERE w.account_id COLLATE "C" = claim.account AND w.undone_at IS NULL
              AND w.item_id = ANY (behind.items)
            UNION ALL
            SELECT concat_ws('|', 'cause', c.cause_id::text)
            FROM dunning.cause c
            WHERE c.account_id COLLATE "C" = claim.account AND c.cleared_at IS NULL
              AND (c.item_id IS NULL OR c.item_id = ANY (behind.items))
            UNION ALL
            SELECT concat_ws('|', 'contact', e.entry_id::text)
            FROM dunning.contact_entry e
            WHERE e.account_id COLLATE "C" = claim.account AND e.ended_at IS NULL
            UNION ALL
            SELECT concat_ws('|', 'plan', p.plan_id::text, p.version::text)
            FROM dunning.plan p
            WHERE p.account_id COLLATE "C" = claim.account AND p.ended_at IS NULL
              AND EXISTS (SELECT FROM dunning.plan_item i
                          WHERE i.plan_id = p.plan_id AND i.version = p.version
                            AND i.item_id = ANY (behind.items))
        ) lines OFFSET 0
    ) said;
END
$fingerprint$;

-- Of one claim.
CREATE OR REPLACE FUNCTION dunning.ledger_fingerprint(for_account text, demanded text[], as_of date, at_date date)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $fingerprint$
    SELECT fingerprint
    FROM dunning.ledger_fingerprints(ARRAY[for_account], ARRAY[to_jsonb(demanded)], ARRAY[as_of], ARRAY[at_date])
$fingerprint$;
