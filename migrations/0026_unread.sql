-- What nothing ever read: the domain of a notice's sender, which stands in the frozen message, and how far a run had come.
ALTER TABLE dunning.notice DROP COLUMN sender_domain;
ALTER TABLE dunning.run DROP COLUMN last_account;
