//! What the relay needs to be told, and how long it may take to answer.

use std::net::IpAddr;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::model::Timeouts;

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
