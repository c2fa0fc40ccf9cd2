//! What the relay needs to be told, and how long it may take to answer.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// How the connection is protected. There is no "if offered": whoever can strip an offer could read the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// STARTTLS (RFC 3207), required: no mail and no password without it.
    StartTls,
    /// TLS from the first byte (RFC 8314 §3.3).
    ImplicitTls,
    /// None. Only to a relay on this machine.
    Plain,
}

/// A user name and a password for AUTH (RFC 4954).
#[derive(Clone)]
pub struct Credentials {
    pub username: String,
    pub password: SecretString,
}

impl std::fmt::Debug for Credentials {
    /// Without either: the user name is often an address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Everything about the relay.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// Its name, which its certificate must bear, or its address.
    pub host: String,
    pub port: u16,
    pub security: Security,
    /// Certificates in PEM that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// How we name ourselves in EHLO: a domain name or an address literal such as `[192.0.2.1]` (RFC 5321 §4.1.3).
    pub hello_name: String,
    pub credentials: Option<Credentials>,
    /// Asks for a message also when a letter has reached its mailbox (RFC 3461 §4.1), where the relay offers that.
    pub notify_success: bool,
    pub timeouts: Timeouts,
}

/// How long each phase may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution and TCP, over all addresses of the relay.
    pub connect: Duration,
    pub greeting: Duration,
    /// Each EHLO: there are two when STARTTLS is used.
    pub hello: Duration,
    /// STARTTLS and its handshake, or the handshake of implicit TLS.
    pub tls: Duration,
    /// The whole AUTH dialogue.
    pub auth: Duration,
    pub mail_from: Duration,
    pub rcpt_to: Duration,
    /// From DATA to its 354. The last check grows old meanwhile: see [`ReadyForData::data`](super::ReadyForData::data).
    pub data: Duration,
    /// Writing the whole message.
    pub body: Duration,
    /// From the final dot to its reply. Too short a time makes an `unknown` of what was accepted.
    pub dot: Duration,
    /// RSET or QUIT.
    pub reset: Duration,
}

impl Default for Timeouts {
    /// Shorter than RFC 5321 §4.5.3.2 where nothing is lost by giving up, its full ten minutes after the final dot.
    fn default() -> Self {
        let minute = Duration::from_mins(1);
        Self {
            connect: Duration::from_secs(30),
            greeting: minute,
            hello: minute,
            tls: Duration::from_secs(30),
            auth: minute,
            mail_from: minute,
            rcpt_to: minute,
            data: minute,
            body: 3 * minute,
            dot: 10 * minute,
            reset: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// The longest that connecting can take, up to an authenticated session.
    #[must_use]
    pub fn connecting(&self) -> Duration {
        self.connect + self.greeting + 2 * self.hello + self.tls + self.auth
    }

    /// The longest that [`Session::envelope`](super::Session::envelope) can take, and a reset after it. A claim must
    /// outlast it.
    #[must_use]
    pub fn envelope(&self) -> Duration {
        self.mail_from + self.rcpt_to + self.reset
    }

    /// The longest that [`ReadyForData::data`](super::ReadyForData::data) can take.
    #[must_use]
    pub fn content(&self) -> Duration {
        self.data + self.body + self.dot + self.reset
    }

    /// The longest that one message can take, connecting and leaving included: what a shutdown must allow for.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.connecting() + self.envelope() + self.content() + self.reset
    }
}

/// Why no relay can be reached with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{0:?} is neither the name nor the address of a relay")]
    Host(String),
    #[error("{0} is not this machine: without TLS only a relay on this machine is used")]
    PlainElsewhere(IpAddr),
    #[error("{0:?} is not a name for EHLO: a domain name or an address literal such as [192.0.2.1] is wanted")]
    HelloName(String),
    #[error("user name and password for the relay must not be empty or hold NUL")]
    Credentials,
    #[error("no certificates can be read from {path}: {detail}")]
    CaFile { path: PathBuf, detail: String },
    #[error("the system trusts no certificate authority; install ca-certificates or name a CA file")]
    NoRoots,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
}
