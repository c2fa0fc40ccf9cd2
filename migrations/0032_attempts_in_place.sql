-- An attempt is written when it begins and once more when it ends, some milliseconds later: with room on its page its end
-- takes its place there, and no index hears of it.
ALTER TABLE dunning.attempt SET (fillfactor = 50);
