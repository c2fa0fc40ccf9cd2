-- The hours in which a notice may go out, and the calendars that a run was made with.

-- By the wall clock. Null: at any hour. When the last of them is over, the notice is claimed once more, to be cancelled.
ALTER TABLE dunning.notice ADD COLUMN send_windows tstzmultirange CHECK (NOT isempty(send_windows));

-- Null for the runs before there were any.
ALTER TABLE dunning.run ADD COLUMN calendars_sha256 text REFERENCES dunning.text;
