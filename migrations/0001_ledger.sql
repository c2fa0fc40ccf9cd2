-- The ledger contract as plain tables, for people without views of their own. An existing schema `ledger` belongs to
-- the operator and is left alone.
DO $ledger$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'ledger') THEN
        RETURN;
    END IF;

    CREATE SCHEMA ledger;

    CREATE TABLE ledger.account (
        account_id text PRIMARY KEY,
        creditor text NOT NULL,
        name text NOT NULL,
        party_kind text NOT NULL,
        country text,
        language text,
        time_zone text,
        tax_id text,
        postal_address text,
        party_id text,
        parent_id text,
        owner text,
        segment text,
        ladder text,
        requisites jsonb,
        hold_until date,
        hold_reason text
    );
    CREATE INDEX account_in_order ON ledger.account (account_id COLLATE "C");

    CREATE TABLE ledger.contact (
        contact_id text PRIMARY KEY,
        account_id text NOT NULL,
        role text NOT NULL,
        name text,
        salutation text,
        email text,
        phone text,
        language text,
        is_primary boolean NOT NULL,
        no_email boolean NOT NULL,
        email_kind text
    );
    CREATE INDEX contact_in_order ON ledger.contact (account_id COLLATE "C");

    CREATE TABLE ledger.item (
        item_id text PRIMARY KEY,
        account_id text NOT NULL,
        kind text NOT NULL,
        document_no text NOT NULL,
        instalment_no int,
        instalment_count int,
        issue_date date NOT NULL,
        due_date date,
        currency text NOT NULL,
        amount numeric NOT NULL,
        open_amount numeric NOT NULL,
        settled_on date,
        written_off_on date,
        disputed_since date,
        dispute_reason text,
        hold_until date,
        hold_reason text,
        payment_reference text,
        customer_reference text,
        contract_no text,
        refers_to text,
        payee text,
        document_path text,
        document_url text,
        pay_url text,
        direct_debit_on date,
        requisites jsonb
    );
    CREATE INDEX item_in_order ON ledger.item (account_id COLLATE "C");

    CREATE TABLE ledger.freshness (
        source text NOT NULL,
        creditor text,
        invoices_as_of timestamptz NOT NULL,
        payments_as_of timestamptz NOT NULL,
        UNIQUE NULLS NOT DISTINCT (source, creditor)
    );

    CREATE TABLE ledger.settlement (
        item_id text NOT NULL,
        booked_on date NOT NULL,
        amount numeric NOT NULL
    );
    CREATE INDEX settlement_item ON ledger.settlement (item_id);

    GRANT USAGE ON SCHEMA ledger TO dunningd_app, dunningd_auditor;
    GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO dunningd_app, dunningd_auditor;
END
$ledger$;
