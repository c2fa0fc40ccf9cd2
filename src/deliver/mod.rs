//! One message over SMTP, phase by phase, or into a file. Never guesses.
