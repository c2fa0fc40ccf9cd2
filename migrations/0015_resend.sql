-- A notice of which nobody knew whether it was accepted, sent once more: the attempt whose end was not known. It stays
-- for good, so that nothing is sent again twice.
ALTER TABLE dunning.notice ADD COLUMN resend_of uuid REFERENCES dunning.attempt;
-- What may be sent again once its time for evidence is over.
CREATE INDEX notice_to_send_again ON dunning.notice (changed_at)
    WHERE state = 'unknown' AND on_unknown = 'resend_once' AND resend_of IS NULL;

-- The newest checkpoint of the log, to auditors, once a day.
ALTER TABLE dunning.operator_mail DROP CONSTRAINT operator_mail_kind_check,
    ADD CONSTRAINT operator_mail_kind_check CHECK (kind IN ('digest', 'alarm', 'checkpoint'));
