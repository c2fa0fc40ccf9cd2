//! A letter and a language become subject, text, HTML and attachments; pure, fails closed.

pub mod locale;
