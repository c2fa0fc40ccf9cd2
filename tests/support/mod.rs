//! The world around the program: a real PostgreSQL and a real SMTP conversation.

pub(crate) mod command;
pub(crate) mod postfix;
pub(crate) mod postgres;
pub(crate) mod shell;
pub(crate) mod smtp;
pub(crate) mod world;
