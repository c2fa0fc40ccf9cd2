//! How long a conversation with the relay may take.

use std::time::Duration;

/// `[mail.timeouts]`: how long each phase may take, in whole seconds, 1 to 3600.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// `connect`: name resolution and TCP, over all addresses of the relay. Default 30 s.
    pub connect: Duration,
    /// `greeting`: the relay's first line. Default 300 s.
    pub greeting: Duration,
    /// `hello`: each EHLO; there are two when STARTTLS is used. Default 300 s.
    pub hello: Duration,
    /// `start_tls`: STARTTLS and its handshake, or the handshake of implicit TLS. Default 300 s.
    pub start_tls: Duration,
    /// `auth`: the whole AUTH dialogue. Default 300 s.
    pub auth: Duration,
    /// `mail_from`. Default 60 s.
    pub mail_from: Duration,
    /// `rcpt_to`. Default 60 s.
    pub rcpt_to: Duration,
    /// `data`: until the relay asks for the text; the last check grows old meanwhile. Default 120 s.
    pub data: Duration,
    /// `body`: sending the text. Default 180 s.
    pub body: Duration,
    /// `dot`: the reply after the final dot. Default 600 s, and never less unless `environment = "test"`: giving up
    /// earlier makes a letter `unknown` that the relay is about to accept (RFC 5321 §4.5.3.2.6).
    pub dot: Duration,
    /// RSET or QUIT: 10 s, and no setting, since nothing is lost by giving up.
    pub reset: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            greeting: Duration::from_mins(5),
            hello: Duration::from_mins(5),
            start_tls: Duration::from_mins(5),
            auth: Duration::from_mins(5),
            mail_from: Duration::from_mins(1),
            rcpt_to: Duration::from_mins(1),
            data: Duration::from_mins(2),
            body: Duration::from_mins(3),
            dot: Duration::from_mins(10),
            reset: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// The longest that connecting can take, up to an authenticated session.
    #[must_use]
    pub fn connecting(&self) -> Duration {
        self.connect + self.greeting + 2 * self.hello + self.start_tls + self.auth
    }

    /// The longest that MAIL FROM and RCPT TO can take, and a reset after them. The lease of a notice must outlast it.
    #[must_use]
    pub fn envelope(&self) -> Duration {
        self.mail_from + self.rcpt_to + self.reset
    }

    /// The longest that DATA, text and final dot can take, and a reset after them.
    #[must_use]
    pub fn content(&self) -> Duration {
        self.data + self.body + self.dot + self.reset
    }
}
