//! One message over SMTP, phase by phase, or into a file. Never guesses.
//!
//! ```text
//!  message::build -> frozen bytes
//!  Relay::connect -> Session::envelope -> ReadyForData -> the shell's last check -> ReadyForData::data -> Outcome
//! ```
//!
//! What a reply means is decided in one place, `classify`. A connection that timed out, broke or answered nonsense is
//! closed and never used again, because the next reply on it might belong to the message before.

mod extensions;
mod file;
mod journal;
mod message;
mod outcome;
mod pace;
mod relay_log;
mod settings;
mod smtp;
mod tls;
mod wire;

pub use extensions::Extensions;
pub use file::FileTransport;
pub use journal::{Ending, Journal, JournalError, LogHead, endings_of};
pub use message::{BuildError, build, text_of};
pub use outcome::{DeliveryError, classify, names_the_recipient};
pub use pace::{Limits, Pace};
pub use relay_log::relay_log;
pub use settings::{Credentials, Security, SettingsError, SmtpSettings};
pub use smtp::{Envelope, ReadyForData, Relay, Session};

/// Where messages go.
#[derive(Debug)]
pub enum Transport {
    /// To the relay.
    Smtp(Box<Relay>),
    /// Into a folder, for trials and for post that is printed.
    File(FileTransport),
}
