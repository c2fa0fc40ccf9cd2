-- What a scan writes in bulk is compressed by lz4, which costs a fraction of pglz's time; a server that was built without
-- it keeps its own way. Rows that are there already stay as they are.
DO $lz4$
BEGIN
    ALTER TABLE dunning.message
        ALTER COLUMN bytes SET COMPRESSION lz4,
        ALTER COLUMN snapshot SET COMPRESSION lz4,
        ALTER COLUMN letter SET COMPRESSION lz4;
    ALTER TABLE dunning.decision ALTER COLUMN detail SET COMPRESSION lz4;
EXCEPTION
    WHEN feature_not_supported THEN NULL;
END
$lz4$;
