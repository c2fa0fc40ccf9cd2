-- Whether nothing is to be paid on an item of the ledger as of that day: nothing is open, or the ledger calls a debit
-- settled, whatever it says is open. A credit counts as long as something of it is open.
CREATE FUNCTION dunning.is_settled(open_amount numeric, settled_on date, today date) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $is_settled$
    SELECT coalesce(open_amount = 0 OR open_amount > 0 AND settled_on BETWEEN date '1900-01-01' AND today, false)
$is_settled$;

-- The same hash as before for claims of which the ledger says neither a day of settlement nor a dispute without a day.
CREATE OR REPLACE FUNCTION dunning.ledger_fingerprints(accounts text[], demanded text[], as_of date[], at_date date[])
RETURNS TABLE (place bigint, fingerprint text) LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $fingerprints$
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
                    coalesce(i.hold_until::text, '-'), coalesce(i.hold_reason::text, '-'), coalesce(i.payee::text, '-'),
                    coalesce(i.direct_debit_on::text, '-'),
                    -- Where the ledger says nothing here, the line is the one that it was before.
                    CASE WHEN one.as_of IS NULL THEN 'settled ' || i.settled_on::text END,
                    CASE WHEN i.disputed_since IS NULL AND i.dispute_reason::text ~ '\S' THEN 'disputed' END) AS line
                FROM ledger.item i
                WHERE i.account_id::text COLLATE "C" = one.account
                  AND (i.item_id::text = ANY (one.items) OR i.kind::text IN ('credit_note', 'payment'))
                  AND (one.as_of IS NULL OR i.issue_date::date <= one.as_of)
                  AND (i.item_id::text = ANY (one.items) OR i.open_amount::numeric <> 0)
                UNION ALL
                SELECT concat_ws('|', 'account', a.account_id::text, coalesce(a.hold_until::text, '-'),
                                 coalesce(a.hold_reason::text, '-'))
                FROM ledger.account a WHERE a.account_id::text COLLATE "C" = one.account
                UNION ALL
                SELECT concat_ws('|', 'waiver', w.item_id, w.stage)
                FROM dunning.waiver w WHERE w.item_id = ANY (one.items)
                UNION ALL
                SELECT entry.line
                FROM dunning.account_in_register r
                CROSS JOIN LATERAL dunning.register_lines(one.account, one.items, one.at_date) AS entry (line)
                WHERE r.account_id = one.account
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
