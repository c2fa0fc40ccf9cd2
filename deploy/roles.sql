-- The roles of dunningd. Run once in each database that dunningd works in, as a superuser:
-- psql -d DATABASE -f deploy/roles.sql. Running it again changes nothing.
--
--   dunningd_owner    no login; owns the schemas `dunning` and (when built in) `ledger`
--   dunningd_admin    logs in for `dunningd migrate` and `dunningd import`, and becomes the owner there
--   dunningd_app      serves `dunningd run` and `dunningd scan`: reads `ledger`, works in `dunning`, and reaches the
--                     contact log only through its one function
--   dunningd_auditor  reads
--
-- Give the logging-in roles a password (ALTER ROLE … PASSWORD …) or let them in by peer authentication.
DO $roles$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'dunningd_owner') THEN
        CREATE ROLE dunningd_owner NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'dunningd_admin') THEN
        CREATE ROLE dunningd_admin LOGIN NOINHERIT;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'dunningd_app') THEN
        CREATE ROLE dunningd_app LOGIN;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'dunningd_auditor') THEN
        CREATE ROLE dunningd_auditor LOGIN;
    END IF;
END
$roles$;

GRANT dunningd_owner TO dunningd_admin;

-- The owner creates the two schemas; nobody else may create anything in this database.
DO $database$
BEGIN
    EXECUTE format('GRANT CREATE, TEMPORARY, CONNECT ON DATABASE %I TO dunningd_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO dunningd_admin, dunningd_app, dunningd_auditor', current_database());
END
$database$;
