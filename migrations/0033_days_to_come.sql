-- A day that the ledger names ahead: the first after a notice's own on which one of its items is settled, written off or
-- disputed. From that day on the notice is not right any more, although the ledger says what it said.
CREATE FUNCTION dunning.day_to_come(for_account text, demanded text[], business_date date) RETURNS date
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $day$
    SELECT min(named.day)
    FROM ledger.item s
    CROSS JOIN LATERAL unnest(ARRAY[s.settled_on::date, s.written_off_on::date, s.disputed_since::date]) AS named (day)
    WHERE s.item_id::text = ANY (dunning.behind(for_account, demanded)) AND named.day > business_date
$day$;
GRANT EXECUTE ON FUNCTION dunning.day_to_come(text, text[], date) TO dunningd_app, dunningd_auditor;
