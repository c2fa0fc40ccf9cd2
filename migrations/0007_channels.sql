-- Notices that people perform: a call to make, a letter to post, a file to hand over. Each has its task; its subject is
-- the notice.

SET LOCAL check_function_bodies = off;

ALTER TABLE dunning.notice DROP CONSTRAINT notice_state_check,
    ADD CONSTRAINT notice_state_check CHECK (state IN ('planned', 'awaiting_approval', 'queued', 'claimed', 'in_flight',
        'accepted', 'deferred', 'refused', 'unknown', 'cancelled', 'bounced', 'delivered', 'replied', 'with_person',
        'done', 'lapsed')),
    ADD COLUMN channel text NOT NULL DEFAULT 'email' CHECK (channel IN ('email', 'call', 'letter', 'handover')),
    -- The e-mail copy of a posted letter: it demands the same and completes nothing.
    ADD COLUMN copy_of uuid REFERENCES dunning.notice,
    -- The last day to do it, after which it lapses; null: it waits.
    ADD COLUMN lapses_on date,
    -- Calls that nobody answered after which it is done.
    ADD COLUMN attempts int NOT NULL DEFAULT 1 CHECK (attempts > 0),
    ADD CONSTRAINT only_email_is_sent CHECK (channel = 'email'
        OR state IN ('planned', 'awaiting_approval', 'with_person', 'done', 'lapsed', 'cancelled'));

-- The e-mail copy of a letter, frozen with it; it becomes a notice once the letter is posted.
CREATE TABLE dunning.letter_copy (
    notice_id uuid PRIMARY KEY REFERENCES dunning.notice,
    copy_id uuid NOT NULL UNIQUE,
    recipient text NOT NULL,
    recipient_key text NOT NULL,
    message_id text NOT NULL,
    bytes bytea NOT NULL
);

ALTER TABLE dunning.call ADD COLUMN notice_id uuid REFERENCES dunning.notice;
CREATE INDEX call_of_notice ON dunning.call (notice_id) WHERE notice_id IS NOT NULL;

REVOKE ALL ON dunning.letter_copy FROM PUBLIC;
GRANT SELECT ON dunning.letter_copy TO dunningd_app, dunningd_auditor;
GRANT INSERT ON dunning.letter_copy TO dunningd_app;
