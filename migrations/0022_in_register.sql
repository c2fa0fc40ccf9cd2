-- What the last check costs is mostly looking into tables where nothing is said about the account. Accounts about which a
-- person ever recorded something are kept in one; the others are asked about there, and nowhere else.
SET LOCAL check_function_bodies = off;

CREATE TABLE dunning.account_in_register (account_id text PRIMARY KEY);

CREATE FUNCTION dunning.enter_in_register() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $enter$
BEGIN
    INSERT INTO dunning.account_in_register VALUES (NEW.account_id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$enter$;
REVOKE ALL ON FUNCTION dunning.enter_in_register() FROM PUBLIC;

-- Every table that dunning.register_lines reads.
CREATE TRIGGER in_register AFTER INSERT OR UPDATE OF account_id ON dunning.hold
    FOR EACH ROW EXECUTE FUNCTION dunning.enter_in_register();
CREATE TRIGGER in_register AFTER INSERT OR UPDATE OF account_id ON dunning.handover
    FOR EACH ROW EXECUTE FUNCTION dunning.enter_in_register();
CREATE TRIGGER in_register AFTER INSERT OR UPDATE OF account_id ON dunning.promise
    FOR EACH ROW EXECUTE FUNCTION dunning.enter_in_register();
CREATE TRIGGER in_register AFTER INSERT OR UPDATE OF account_id ON dunning.write_off
    FOR EACH ROW EXECUTE FUNCTION dunning.enter_in_register();
CREATE TRIGGER in_register AFTER INSERT OR UPDATE OF account_id ON dunning.cause
    FOR EACH ROW EXECUTE FUNCTION dunning.enter_in_register();
CREATE TRIGGER in_register AFTER INSERT OR UPDATE OF account_id ON dunning.contact_entry
    FOR EACH ROW EXECUTE FUNCTION dunning.enter_in_register();
CREATE TRIGGER in_register AFTER INSERT OR UPDATE OF account_id ON dunning.plan
    FOR EACH ROW EXECUTE FUNCTION dunning.enter_in_register();

INSERT INTO dunning.account_in_register
SELECT account_id FROM dunning.hold UNION SELECT account_id FROM dunning.handover UNION
SELECT account_id FROM dunning.promise UNION SELECT account_id FROM dunning.write_off UNION
SELECT account_id FROM dunning.cause UNION SELECT account_id FROM dunning.contact_entry UNION
SELECT account_id FROM dunning.plan;

-- What people recorded that a claim depends on, a line for each entry: a part of the fingerprint.
CREATE FUNCTION dunning.register_lines(account text, items text[], at_date date) RETURNS SETOF text
LANGUAGE plpgsql STABLE ROWS 2
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $lines$
BEGIN
    RETURN QUERY
    SELECT concat_ws('|', 'hold', h.hold_id::text)
    FROM dunning.hold h
    WHERE h.account_id COLLATE "C" = $1 AND h.released_at IS NULL
      AND (h.item_id IS NULL OR h.item_id = ANY ($2)) AND (h.until IS NULL OR h.until >= $3)
    UNION ALL
    SELECT concat_ws('|', 'handover', o.handover_id::text)
    FROM dunning.handover o
    WHERE o.account_id COLLATE "C" = $1 AND o.back_at IS NULL
    UNION ALL
    SELECT concat_ws('|', 'promise', p.promise_id::text)
    FROM dunning.promise p
    WHERE p.account_id COLLATE "C" = $1 AND p.withdrawn_at IS NULL AND p.by_day + p.tolerance_days >= $3
      AND EXISTS (SELECT FROM dunning.promise_item i WHERE i.promise_id = p.promise_id AND i.item_id = ANY ($2))
    UNION ALL
    SELECT concat_ws('|', 'write_off', w.write_off_id::text)
    FROM dunning.write_off w
    WHERE w.account_id COLLATE "C" = $1 AND w.undone_at IS NULL AND w.item_id = ANY ($2)
    UNION ALL
    SELECT concat_ws('|', 'cause', c.cause_id::text)
    FROM dunning.cause c
    WHERE c.account_id COLLATE "C" = $1 AND c.cleared_at IS NULL AND (c.item_id IS NULL OR c.item_id = ANY ($2))
    UNION ALL
    SELECT concat_ws('|', 'contact', e.entry_id::text)
    FROM dunning.contact_entry e
    WHERE e.account_id COLLATE "C" = $1 AND e.ended_at IS NULL
    UNION ALL
    SELECT concat_ws('|', 'plan', p.plan_id::text, p.version::text)
    FROM dunning.plan p
    WHERE p.account_id COLLATE "C" = $1 AND p.ended_at IS NULL
      AND EXISTS (SELECT FROM dunning.plan_item i
                  WHERE i.plan_id = p.plan_id AND i.version = p.version AND i.item_id = ANY ($2));
END
$lines$;

-- The same hash as before. A waiver belongs to an item, with whatever account it stands.
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

GRANT SELECT ON dunning.account_in_register TO dunningd_app, dunningd_auditor;
GRANT EXECUTE ON FUNCTION dunning.register_lines(text, text[], date) TO dunningd_app, dunningd_auditor;
