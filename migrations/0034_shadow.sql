-- In the mode `shadow` nothing leaves, also not what was released before.
CREATE OR REPLACE VIEW dunning.claimable AS
SELECT n.notice_id, n.recipient_key
FROM dunning.notice n
WHERE n.waits_for = 'delivery'
  AND (n.state IN ('queued', 'deferred') AND coalesce(n.next_try_at, '-infinity') <= clock_timestamp()
       OR n.state = 'claimed' AND n.lease_until < clock_timestamp())
  AND coalesce(n.not_before, '-infinity') <= clock_timestamp()
  AND (n.send_windows IS NULL OR n.send_windows @> clock_timestamp() OR upper(n.send_windows) <= clock_timestamp())
  AND NOT EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL)
  AND NOT EXISTS (SELECT FROM dunning.control WHERE mode = 'shadow')
  AND NOT dunning.waits_for_breaker(n.creditor, n.stage, n.language);
