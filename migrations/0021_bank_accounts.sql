-- Which bank account each demand named. A letter with two payees names two of them, and one of the items may be paid
-- before the next letter: only a number that was never named before is a change.
SET LOCAL check_function_bodies = off;

ALTER TABLE dunning.notice_item
    -- Where this item was to be paid to; null for what was demanded before this was kept.
    ADD COLUMN bank_account text,
    -- The item itself names that account; else it is the debtor's or the creditor's.
    ADD COLUMN of_item boolean NOT NULL DEFAULT false;
UPDATE dunning.notice_item i SET bank_account = named.bank_account
FROM (SELECT m.notice_id, demand ->> 'currency' AS currency,
             min(coalesce(demand #>> '{payee,iban}', demand #>> '{payee,number}')) AS bank_account
      FROM dunning.message m CROSS JOIN LATERAL jsonb_array_elements(m.letter -> 'demands') AS demand
      GROUP BY 1, 2 HAVING count(DISTINCT coalesce(demand #>> '{payee,iban}', demand #>> '{payee,number}')) = 1) named
WHERE i.notice_id = named.notice_id AND i.currency = named.currency AND i.live;

-- Every bank account that letters named, one in a row: the creditor's own (account_id is empty), and those of an account.
-- What items name themselves is kept with what was demanded on them.
ALTER TABLE dunning.requisites DROP CONSTRAINT requisites_pkey;
WITH joined AS (DELETE FROM dunning.requisites WHERE bank_account LIKE '%, %' RETURNING *)
INSERT INTO dunning.requisites (creditor, account_id, currency, bank_account, since)
SELECT creditor, account_id, currency, number, since
FROM joined CROSS JOIN LATERAL string_to_table(bank_account, ', ') AS number;
ALTER TABLE dunning.requisites ADD PRIMARY KEY (creditor, account_id, currency, bank_account);
REVOKE UPDATE (bank_account, since) ON dunning.requisites FROM dunningd_app;
DROP FUNCTION dunning.bank_accounts;
