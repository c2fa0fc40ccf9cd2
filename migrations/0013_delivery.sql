-- The queue in the order in which it is claimed, so that a claim reads as many rows as it takes, however long the queue.
DROP INDEX dunning.notice_to_send;
CREATE INDEX notice_to_send ON dunning.notice (created_at, notice_id) WHERE state IN ('queued', 'deferred', 'claimed');
-- What is on the wire, for the sweep.
CREATE INDEX notice_in_flight ON dunning.notice (lease_until) WHERE state = 'in_flight';
