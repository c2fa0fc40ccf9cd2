-- Refusals at several domains in a row may be about us: the notices that were refused so, since the last acceptance.
ALTER TABLE dunning.breaker ADD COLUMN refused uuid[] NOT NULL DEFAULT '{}';
-- Since when it lets nothing through, whatever probes were made meanwhile.
ALTER TABLE dunning.breaker ADD COLUMN open_since timestamptz;
UPDATE dunning.breaker SET open_since = changed_at WHERE until IS NOT NULL;
