-- An item that moves to another account takes along what is known about it: the stages it has behind it, what people
-- recorded about it, and that it was withdrawn.
ALTER TABLE dunning.known_item
    -- The accounts that it stood with before; null: it never moved.
    ADD COLUMN earlier_accounts text[],
    -- The business date of the run that saw it with another account for the first time.
    ADD COLUMN moved_on date;

-- Items that moved before anybody wrote that down.
UPDATE dunning.known_item k SET earlier_accounts = recorded.accounts
FROM (SELECT k.item_id, array_agg(DISTINCT r.account_id ORDER BY r.account_id) AS accounts
      FROM (SELECT i.item_id, n.account_id FROM dunning.notice_item i JOIN dunning.notice n USING (notice_id)
            WHERE NOT starts_with(i.item_id, 'plan:')
            UNION SELECT item_id, account_id FROM dunning.waiver
            UNION SELECT item_id, account_id FROM dunning.hold WHERE item_id IS NOT NULL
            UNION SELECT item_id, account_id FROM dunning.cause WHERE item_id IS NOT NULL
            UNION SELECT item_id, account_id FROM dunning.write_off
            UNION SELECT i.item_id, p.account_id FROM dunning.promise_item i JOIN dunning.promise p USING (promise_id)
            UNION SELECT i.item_id, p.account_id FROM dunning.plan_item i
                  JOIN dunning.plan p USING (plan_id, version)) r
      JOIN dunning.known_item k ON k.item_id = r.item_id AND k.account_id <> r.account_id
      GROUP BY k.item_id) recorded
WHERE recorded.item_id = k.item_id;
CREATE INDEX moved_item_of_account ON dunning.known_item (account_id) WHERE earlier_accounts IS NOT NULL;
CREATE INDEX moved_item_by_earlier_account ON dunning.known_item USING gin (earlier_accounts)
    WHERE earlier_accounts IS NOT NULL;

-- The e-mail copy of a letter that is still to be posted counts for its mailbox.
CREATE INDEX letter_copy_of_mailbox ON dunning.letter_copy (recipient_key);
