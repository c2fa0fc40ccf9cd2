-- A plan that looks accounts up, made once for each connection: whatever the server knows about tables that have just been
-- filled, and whoever asks. Planning for the claims at hand took longer than answering.
ALTER FUNCTION dunning.ledger_fingerprints(text[], text[], date[], date[])
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off;
