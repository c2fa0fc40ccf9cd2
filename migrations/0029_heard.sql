-- What nobody heard, since no person did it or no debtor answered, completes its own stage alone: items that it took along
-- at an earlier stage may be written to about that one.
UPDATE dunning.notice_item i SET live = false
FROM dunning.notice n
WHERE i.notice_id = n.notice_id AND i.live AND i.stage <> n.stage
  AND (n.state = 'lapsed' OR n.state = 'done' AND n.reason = 'no_answer');
