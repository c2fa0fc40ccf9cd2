-- Keys are compared as the contract reads them: as texts, and mailboxes as dunningd does.

-- A mailbox as `EmailAddress::mailbox_key` writes it, of a text that says one; NULL where only dunningd can tell: of what
-- is not plain ASCII, and of domains in A-labels, which others may write in letters.
CREATE FUNCTION dunning.mailbox_key(email text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $mailbox_key$
    SELECT CASE WHEN octet_length(email) = length(email) AND strpos(lower(email COLLATE "C"), 'xn--') = 0
                THEN lower(btrim(email, E' \t\n\x0b\x0c\r') COLLATE "C") END
$mailbox_key$;
GRANT EXECUTE ON FUNCTION dunning.mailbox_key(text) TO dunningd_app, dunningd_auditor;

-- As before, but what cannot be compared on the side of the contact is taken for the mailbox as well.
CREATE OR REPLACE FUNCTION dunning.wants_mail(for_account text, mailbox text) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $wants_mail$
DECLARE
    comparable boolean := wants_mail.mailbox !~ '[^ -~]|xn--';
BEGIN
    RETURN EXISTS (
        SELECT FROM ledger.contact c
        LEFT JOIN dunning.contact_entry e
            ON e.account_id = wants_mail.for_account AND e.contact_id = c.contact_id::text AND e.ended_at IS NULL
        WHERE c.account_id::text COLLATE "C" = wants_mail.for_account
          AND NOT coalesce(e.no_email, c.no_email::boolean, true) AND c.email IS NOT NULL
          AND (NOT comparable OR coalesce(dunning.mailbox_key(c.email::text) = wants_mail.mailbox, true))
    ) OR EXISTS (
        SELECT FROM dunning.contact_entry e JOIN dunning.contact_data d USING (entry_id)
        WHERE e.account_id = wants_mail.for_account AND e.ended_at IS NULL AND NOT coalesce(e.no_email, false)
          AND d.email IS NOT NULL
          AND (NOT comparable OR coalesce(dunning.mailbox_key(d.email) = wants_mail.mailbox, true))
    );
END
$wants_mail$;

-- The same hash as before, for ledgers whose texts are numbers, uuids or enums as well.
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
                    coalesce(i.direct_debit_on::text, '-')) AS line
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

-- What a person has to look at, as a column that delivery does not change: the table of notices grows for ever.
ALTER TABLE dunning.notice ADD COLUMN unresolved boolean GENERATED ALWAYS AS (
    CASE WHEN state IN ('unknown', 'refused', 'bounced') THEN true END) STORED;
CREATE INDEX notice_unresolved ON dunning.notice (creditor) WHERE unresolved;

-- What could be claimed now, for whoever only asks. The claim spells the same out: it locks what it finds, and looks for
-- breakers only where there are any.
CREATE VIEW dunning.claimable AS
SELECT n.notice_id, n.recipient_key
FROM dunning.notice n
WHERE n.waits_for = 'delivery'
  AND (n.state IN ('queued', 'deferred') AND coalesce(n.next_try_at, '-infinity') <= clock_timestamp()
       OR n.state = 'claimed' AND n.lease_until < clock_timestamp())
  AND coalesce(n.not_before, '-infinity') <= clock_timestamp()
  AND (n.send_windows IS NULL OR n.send_windows @> clock_timestamp() OR upper(n.send_windows) <= clock_timestamp())
  AND NOT EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL)
  AND NOT dunning.waits_for_breaker(n.creditor, n.stage, n.language);
GRANT SELECT ON dunning.claimable TO dunningd_app, dunningd_auditor;
