-- A plan that looks accounts up, made once for each connection: whatever the server knows about tables that have just been
-- filled, and whoever asks. Planning for the claims at hand took longer than answering.
ALTER FUNCTION dunning.ledger_fingerprints(text[], text[], date[], date[])
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off;

-- Whether a contact of the account still has that mailbox and wants e-mail, by the ledger or by what a person entered. A
-- mailbox is kept with its domain in A-labels and in lower case, which only some addresses can be compared with here; of
-- the others it is enough that somebody wants e-mail.
CREATE FUNCTION dunning.wants_mail(for_account text, mailbox text) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $wants_mail$
DECLARE
    comparable boolean := wants_mail.mailbox !~ '[^ -~]|xn--';
BEGIN
    RETURN EXISTS (
        SELECT FROM ledger.contact c
        LEFT JOIN dunning.contact_entry e
            ON e.account_id = wants_mail.for_account AND e.contact_id = c.contact_id::text AND e.ended_at IS NULL
        WHERE c.account_id::text COLLATE "C" = wants_mail.for_account
          AND NOT coalesce(e.no_email, c.no_email::boolean, true)
          AND (NOT comparable OR lower(btrim(c.email::text, E' \t\r\n\u00a0')) = wants_mail.mailbox)
    ) OR EXISTS (
        SELECT FROM dunning.contact_entry e JOIN dunning.contact_data d USING (entry_id)
        WHERE e.account_id = wants_mail.for_account AND e.ended_at IS NULL AND NOT coalesce(e.no_email, false)
          AND (NOT comparable OR lower(btrim(d.email)) = wants_mail.mailbox)
    );
END
$wants_mail$;
