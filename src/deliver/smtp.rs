//! A conversation with the relay, one type per place it can stand at.
//!
//! lettre's connection speaks the commands, and the text we say ourselves, in one go with its final dot; each step gets
//! its own time, and its reply its meaning from [`classify`]. Every method takes the value it is called on, so a future
//! that is dropped half-way takes the connection with it: there is no way to go on using one whose last reply was never
//! read.

use std::fmt::{self, Display};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lettre::Address;
use lettre::transport::smtp::authentication::Credentials as Login;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Rset, Starttls};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{Error as SmtpError, response::Response};
use memchr::memmem;
use secrecy::ExposeSecret as _;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsConnector, rustls};

use super::extensions::Extensions;
use super::message::verify;
use super::outcome::{DeliveryError, classify, goes_on_after, no_reply};
use super::wire::Wire;
use super::{Security, SettingsError, SmtpSettings, tls};
use crate::model::{EmailAddress, Fault, Outcome, Phase, Reply, Timeouts};

/// How long to listen for a last word after writing the body failed: it has arrived already or never will.
const LAST_WORD: Duration = Duration::from_secs(2);
/// A LOGIN dialogue asks twice; more questions are a loop.
const CHALLENGES_MAX: usize = 3;

/// The relay that takes our mail.
pub struct Relay {
    settings: SmtpSettings,
    hello: ClientId,
    /// `None` when the connection stays plain.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Display for Relay {
    /// `relay.example.com:587`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.settings.host, self.settings.port)
    }
}

impl Relay {
    /// Checks the settings and loads the trusted certificates. Connects to nothing.
    ///
    /// # Errors
    /// When the settings can lead to no session, or to one that is not safe: see [`SettingsError`].
    pub fn new(settings: SmtpSettings) -> Result<Self, SettingsError> {
        let is_word = |text: &str| !text.is_empty() && text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic());
        if !is_word(&settings.host) {
            return Err(SettingsError::Host(settings.host));
        }
        if !is_word(&settings.hello_name) {
            return Err(SettingsError::HelloName(settings.hello_name));
        }
        if let Some(credentials) = &settings.credentials {
            let is_usable = |text: &str| !text.is_empty() && !text.contains('\0');
            if !is_usable(&credentials.username) || !is_usable(credentials.password.expose_secret()) {
                return Err(SettingsError::Credentials);
            }
        }
        let tls = if settings.security == Security::Plain {
            // A name is resolved, and its addresses looked at, with each connection.
            match settings.host.parse::<IpAddr>() {
                Ok(address) if !address.is_loopback() => return Err(SettingsError::PlainElsewhere(address)),
                _ => None,
            }
        } else {
            let name =
                ServerName::try_from(settings.host.clone()).map_err(|_| SettingsError::Host(settings.host.clone()))?;
            Some((tls::connector(settings.ca_file.as_deref())?, name))
        };
        let hello = ClientId::Domain(settings.hello_name.clone());
        Ok(Self { settings, hello, tls })
    }

    /// The time each phase gets.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.settings.timeouts
    }

    /// Connects, agrees on TLS and proves who we are.
    ///
    /// # Errors
    /// When no relay answers, it offers no STARTTLS where that is required, its certificate does not convince, it
    /// refuses user name and password or offers no way to give them, or a phase takes too long. Nothing was sent, and
    /// no password left this machine unless TLS stood (or the relay is on this machine and plain was asked for).
    pub async fn connect(&self) -> Result<Session, DeliveryError> {
        let limits = self.settings.timeouts;
        let (stream, peer) = self.dial().await?;
        let wire = Wire::new(stream, peer);

        if self.settings.security == Security::ImplicitTls {
            within(Phase::StartTls, limits.start_tls, self.encrypt(&wire)).await?;
        }

        let greeting = within(Phase::Greeting, limits.greeting, async {
            wire.greeting().await.map_err(|error| why_io(&error))?.ok_or_else(|| why_mute(&wire))
        });
        expect(Phase::Greeting, greeting.await?)?;

        let speaking = AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), &self.hello);
        let Ok(connection) = timeout(limits.hello, speaking).await else {
            return Err(DeliveryError::new(Phase::Hello, took_too_long(limits.hello)));
        };
        // When EHLO is refused lettre says QUIT before it returns, so the wire holds the reply to that.
        let connection = connection.map_err(|error| match error.status() {
            Some(code) => {
                let text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                DeliveryError::answered(Phase::Hello, Reply { code: code.into(), text })
            }
            None => DeliveryError::new(Phase::Hello, why(&error, &wire)),
        })?;
        let hello = wire.reply().ok_or_else(|| DeliveryError::new(Phase::Hello, why_mute(&wire)))?;
        let offered = Extensions::read(&hello);
        expect(Phase::Hello, hello)?;

        let notify_success = self.settings.notify_success;
        let mut line = Line { connection, wire, limits, offered, notify_success, opened: Instant::now(), accepted: 0 };
        if self.settings.security == Security::StartTls {
            if !line.offered.start_tls {
                return Err(DeliveryError::new(Phase::StartTls, "the relay offers no STARTTLS"));
            }
            within(Phase::StartTls, limits.start_tls, async {
                let reply = line.exchange(Starttls).await?;
                if classify(Phase::StartTls, &reply).is_some() {
                    return Ok(Some(reply));
                }
                self.encrypt(&line.wire).await.map(|()| None)
            })
            .await?
            .map_or(Ok(()), |reply| Err(DeliveryError::answered(Phase::StartTls, reply)))?;
            // What was offered before TLS may have been written by anyone (RFC 3207 §4.2).
            let hello = within(Phase::Hello, limits.hello, line.exchange(Ehlo::new(self.hello.clone()))).await?;
            line.offered = Extensions::read(&hello);
            expect(Phase::Hello, hello)?;
        }

        if let Some(credentials) = &self.settings.credentials {
            let login = Login::new(credentials.username.clone(), credentials.password.expose_secret().to_owned());
            let reply = within(Phase::Auth, limits.auth, line.authenticate(&login)).await?;
            expect(Phase::Auth, reply)?;
        }
        Ok(Session { line: Box::new(line) })
    }

    /// The first of the relay's addresses that answers. Each gets an equal part of the time, so that a dead one does
    /// not use up that of the next.
    async fn dial(&self) -> Result<(TcpStream, SocketAddr), DeliveryError> {
        let failed = |detail: String| DeliveryError::new(Phase::Connect, detail);
        let limit = self.settings.timeouts.connect;
        let begun = Instant::now();
        let found = timeout(limit, lookup_host((self.settings.host.as_str(), self.settings.port)))
            .await
            .map_err(|_| failed(took_too_long(limit)))?
            .map_err(|_| failed("the name of the relay is unknown".into()))?;
        let addresses: Vec<SocketAddr> = found.collect();
        if self.settings.security == Security::Plain
            && let Some(elsewhere) = addresses.iter().find(|address| !address.ip().is_loopback())
        {
            let detail = format!("{} is not this machine, and without TLS no other is used", elsewhere.ip());
            return Err(failed(detail));
        }

        let mut last = failed("the relay has no address".into());
        for (tried, &address) in addresses.iter().enumerate() {
            let waiting = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let share = limit.saturating_sub(begun.elapsed()) / waiting;
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Else what takes two writes waits 40 ms for an acknowledgement in between.
                    stream.set_nodelay(true).map_err(|error| failed(why_io(&error)))?;
                    return Ok((stream, address));
                }
                Ok(Err(error)) => last = failed(why_io(&error)),
                Err(_) => last = failed(took_too_long(share)),
            }
        }
        Err(last)
    }

    async fn encrypt(&self, wire: &Wire) -> Result<(), String> {
        let Some((connector, name)) = &self.tls else { return Err("TLS is not set up".into()) };
        wire.encrypt(connector, name.clone()).await.map_err(|error| match error.get_ref() {
            // Written by rustls: why a certificate does not convince.
            Some(inner) => match inner.downcast_ref::<rustls::Error>().and_then(advice) {
                Some(advice) => format!("{inner}; {advice}"),
                None => inner.to_string(),
            },
            None => why_io(&error),
        })
    }
}

/// Which key of `[mail]` may be wrong.
fn advice(error: &rustls::Error) -> Option<&'static str> {
    use rustls::CertificateError::{BadSignature, NotValidForName, NotValidForNameContext, UnknownIssuer};
    match error {
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            Some("if the relay's authority is your own, `ca_file` of [mail] names its certificate")
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            Some("`host` of [mail] has to be a name that the certificate holds")
        }
        rustls::Error::InvalidMessage(_) => {
            Some("the relay does not speak TLS there: see `port` and `security` of [mail]")
        }
        _ => None,
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The connection and what is known about it.
struct Line {
    connection: AsyncSmtpConnection,
    wire: Wire,
    limits: Timeouts,
    offered: Extensions,
    notify_success: bool,
    opened: Instant,
    accepted: u32,
}

impl Line {
    /// Says one command and hears its reply, whatever lettre thinks of it.
    ///
    /// # Errors
    /// In our words, when there is no reply. The connection must not be used again.
    async fn exchange(&mut self, command: impl Display) -> Result<Reply, String> {
        let result = self.connection.command(command).await;
        heard(&self.wire, result).await
    }

    /// Hears the reply to a command that was said together with the one before it.
    ///
    /// # Errors
    /// In our words, when there is none. The connection must not be used again.
    async fn next_reply(&mut self) -> Result<Reply, String> {
        let heard = self.wire.next_reply().await.map_err(|error| why_io(&error))?;
        heard.ok_or_else(|| why_mute(&self.wire))
    }

    async fn authenticate(&mut self, login: &Login) -> Result<Reply, String> {
        let mechanism = self.offered.mechanism.ok_or("the relay offers neither AUTH PLAIN nor AUTH LOGIN")?;
        let unclear = |_| "the relay asks for something else than user name and password".to_owned();
        let mut reply = self.exchange(Auth::new(mechanism, login.clone(), None).map_err(unclear)?).await?;
        for _ in 0..CHALLENGES_MAX {
            if reply.code != 334 {
                break;
            }
            let asked = BASE64_STANDARD.decode(reply.text.trim()).unwrap_or_default();
            let asked = String::from_utf8_lossy(&asked).into_owned();
            let answer = Auth::new(mechanism, login.clone(), Some(asked)).map_err(unclear)?;
            reply = self.exchange(answer).await?;
        }
        Ok(reply)
    }
}

/// One message on its way to one recipient.
#[derive(Clone, Copy)]
pub struct Envelope<'a> {
    pub from: &'a EmailAddress,
    pub to: &'a EmailAddress,
    /// What a later message about this one refers to (ENVID, RFC 3461 §4.4): at most 100 characters of ASCII.
    pub id: &'a str,
    /// The message, as [`ReadyForData::data`] will send it.
    pub bytes: &'a [u8],
}

impl Envelope<'_> {
    /// Whether an address has a local part that is not ASCII (RFC 6531). Domains are A-labels in every address.
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        self.from.needs_smtputf8() || self.to.needs_smtputf8()
    }
}

/// A connection on which no transaction is open. Dropped, it hangs up.
pub struct Session {
    line: Box<Line>,
}

impl Session {
    /// Names sender and recipient (RFC 5321 §3.3): one recipient, so that one reply is about one notice.
    ///
    /// # Errors
    /// The outcome, and the session if it is still good. What the relay is known not to take (a message above its size
    /// limit, an address that needs SMTPUTF8 or bytes that need 8BITMIME where it offers neither) is `Refused` without
    /// a word said, and without a reply: no words of the relay are invented.
    pub async fn envelope(self, envelope: &Envelope<'_>) -> Result<ReadyForData, (Option<Self>, Outcome)> {
        let offered = &self.line.offered;
        let unfit = |fault, detail: &str| Outcome::Refused {
            phase: Phase::MailFrom,
            reply: None,
            detail: detail.to_owned(),
            fault,
        };
        let refused = if let Some(limit) = offered.size_limit.filter(|&limit| envelope.bytes.len() > limit) {
            let size = envelope.bytes.len();
            Some(unfit(Fault::Content, &format!("the message has {size} octets, and the relay takes at most {limit}")))
        } else if envelope.needs_smtputf8() && !offered.smtputf8 {
            Some(unfit(Fault::Recipient, "the address needs SMTPUTF8, which the relay does not offer"))
        } else if !envelope.bytes.is_ascii() && !offered.eight_bit_mime {
            Some(unfit(Fault::Content, "the message needs 8BITMIME, which the relay does not offer"))
        } else {
            None
        };
        if let Some(outcome) = refused {
            return Err((Some(self), outcome));
        }
        let (Ok(sender), Ok(recipient)) =
            (envelope.from.as_str().parse::<Address>(), envelope.to.as_str().parse::<Address>())
        else {
            return Err((Some(self), unfit(Fault::Recipient, "an address cannot be written in SMTP")));
        };
        let mail = Mail::new(Some(sender), offered.mail_parameters(envelope));
        let rcpt = Rcpt::new(recipient, offered.rcpt_parameters(envelope, self.line.notify_success));
        let session = if offered.pipelining {
            self.both(mail, rcpt).await?
        } else {
            let limits = self.line.limits;
            let session = self.step(Phase::MailFrom, limits.mail_from, mail).await?;
            session.step(Phase::RcptTo, limits.rcpt_to, rcpt).await?
        };
        Ok(ReadyForData { session })
    }

    /// What the relay offered.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.line.offered
    }

    /// How long the connection has been open.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.line.opened.elapsed()
    }

    /// How many messages were accepted on it.
    #[must_use]
    pub fn accepted(&self) -> u32 {
        self.line.accepted
    }

    /// Takes leave. What the relay answers no longer matters.
    pub async fn quit(mut self) {
        let _ = timeout(self.line.limits.reset, self.line.exchange(Quit)).await;
    }

    /// Sender and recipient at once (RFC 2920), where the relay offers that. DATA never goes along: the last check stands
    /// before it.
    async fn both(mut self, mail: Mail, rcpt: Rcpt) -> Result<Self, End> {
        let limits = self.line.limits;
        let to_mail = in_time(limits.mail_from, self.line.exchange(format!("{mail}{rcpt}"))).await;
        if !to_mail.as_ref().is_ok_and(goes_on_after) {
            return self.answered(Phase::MailFrom, to_mail).await;
        }
        // RCPT is answered whatever became of MAIL.
        let to_rcpt = in_time(limits.rcpt_to, self.line.next_reply()).await;
        let refused = to_mail.as_ref().ok().and_then(|reply| classify(Phase::MailFrom, reply));
        match refused {
            Some(outcome) if to_rcpt.is_err() => Err((None, outcome)),
            Some(_) => self.answered(Phase::MailFrom, to_mail).await,
            None => self.answered(Phase::RcptTo, to_rcpt).await,
        }
    }

    /// One command that either lets the conversation go on or ends the attempt.
    async fn step(mut self, phase: Phase, limit: Duration, command: impl Display) -> Result<Self, End> {
        let said = in_time(limit, self.line.exchange(command)).await;
        self.answered(phase, said).await
    }

    async fn answered(self, phase: Phase, said: Result<Reply, String>) -> Result<Self, End> {
        match said {
            Err(detail) => Err((None, no_reply(phase, detail))),
            Ok(reply) => match classify(phase, &reply) {
                None => Ok(self),
                Some(outcome) if goes_on_after(&reply) && reply.code >= 400 => Err((self.reset().await, outcome)),
                Some(outcome) => Err((None, outcome)),
            },
        }
    }

    /// Ends an open transaction (RFC 5321 §4.1.1.5).
    async fn reset(mut self) -> Option<Self> {
        let said = timeout(self.line.limits.reset, self.line.exchange(Rset)).await;
        matches!(said, Ok(Ok(Reply { code: 250, .. }))).then_some(self)
    }

    /// The message and the final dot, said in one go.
    async fn body(mut self, bytes: &[u8]) -> End {
        let text = dot_stuffed(bytes);
        let Line { wire, limits, .. } = &mut *self.line;
        let (phase, heard) = match timeout(limits.body, wire.say(&text)).await {
            Ok(Ok(())) => (Phase::Dot, timeout(limits.dot, wire.hear_out()).await.map_err(|_| limits.dot)),
            // It may have said why.
            Ok(Err(error)) => match timeout(LAST_WORD, wire.hear_out()).await {
                Ok(Ok(Some(reply))) => (Phase::Body, Ok(Ok(Some(reply)))),
                _ => (Phase::Body, Ok(Err(error))),
            },
            Err(_) => (Phase::Body, Err(limits.body)),
        };
        let reply = match heard {
            Ok(Ok(Some(reply))) => reply,
            Ok(Ok(None)) => return (None, no_reply(phase, why_mute(wire))),
            Ok(Err(error)) => return (None, no_reply(phase, why_io(&error))),
            Err(limit) => return (None, no_reply(phase, took_too_long(limit))),
        };
        let outcome = classify(phase, &reply).unwrap_or_else(|| no_reply(phase, "the reply has no meaning".into()));
        self.line.accepted += u32::from(matches!(outcome, Outcome::Accepted { .. }));
        let usable = phase == Phase::Dot && goes_on_after(&reply);
        (usable.then_some(self), outcome)
    }
}

/// A message as DATA wants it: a line that begins with a dot gets another (RFC 5321 §4.5.2), and the final dot ends it.
/// Its lines end in CRLF, also the last ([`verify`]).
fn dot_stuffed(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + bytes.len() / 32 + 4);
    let mut said = 0;
    let dots = memmem::find_iter(bytes, b"\n.").map(|at| at + 1);
    for dot in bytes.starts_with(b".").then_some(0).into_iter().chain(dots) {
        text.extend_from_slice(&bytes[said..dot]);
        text.push(b'.');
        said = dot;
    }
    text.extend_from_slice(&bytes[said..]);
    text.extend_from_slice(b".\r\n");
    text
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("wire", &self.line.wire).finish_non_exhaustive()
    }
}

type End = (Option<Session>, Outcome);

/// The relay has taken sender and recipient; the last check comes now. Dropped, it hangs up, and nothing was sent.
#[derive(Debug)]
pub struct ReadyForData {
    session: Session,
}

impl ReadyForData {
    /// Sends the message: DATA, its 354, the bytes with dots stuffed (RFC 5321 §4.5.2), the final dot, the reply.
    /// Gives the session back if the relay will go on.
    ///
    /// While the 354 is awaited the last check grows older: `still_true` is asked when it has come, and at a no the
    /// connection closes before the first byte of the message, which so was not sent.
    ///
    /// Must not be dropped before it is done: it takes no longer than [`Timeouts::content`], and a future that was
    /// dropped half-way leaves a message of which nobody knows, to be recorded as `unknown`. The connection closes
    /// with it. Bytes that no relay may be given (see [`build`](super::build)) are `Refused` without a word said.
    pub async fn data(self, bytes: &[u8], still_true: impl FnOnce() -> bool + Send) -> (Option<Session>, Outcome) {
        if let Err(fault) = verify(bytes) {
            let (phase, detail) = (Phase::Data, fault.to_string());
            let outcome = Outcome::Refused { phase, reply: None, detail, fault: Fault::Content };
            return (self.reset().await, outcome);
        }
        let limit = self.session.line.limits.data;
        match self.session.step(Phase::Data, limit, Data).await {
            Ok(session) if still_true() => session.body(bytes).await,
            // There is no other way to take back DATA.
            Ok(_) => (None, no_reply(Phase::Data, "the last check was too old when the relay answered DATA".into())),
            Err(end) => end,
        }
    }

    /// Takes it back, because the last check said no.
    pub async fn reset(self) -> Option<Session> {
        self.session.reset().await
    }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(took_too_long(limit)))
}

/// The reply that the wire noted, if there is a whole one.
async fn heard(wire: &Wire, result: Result<Response, SmtpError>) -> Result<Reply, String> {
    if let Some(reply) = wire.reply() {
        return Ok(reply);
    }
    match wire.hear_out().await {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) | Err(_) => Err(result.err().map_or_else(|| why_mute(wire), |error| why(&error, wire))),
    }
}

async fn within<T>(
    phase: Phase,
    limit: Duration,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, DeliveryError> {
    in_time(limit, work).await.map_err(|detail| DeliveryError::new(phase, detail))
}

fn expect(phase: Phase, reply: Reply) -> Result<(), DeliveryError> {
    classify(phase, &reply).map_or(Ok(()), |_| Err(DeliveryError::answered(phase, reply)))
}

fn took_too_long(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f32())
}

/// lettre's own words may quote the relay, which quotes addresses; the kind of failure does not.
fn why(error: &SmtpError, wire: &Wire) -> String {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return why_io(error);
        }
        source = cause.source();
    }
    why_mute(wire)
}

fn why_io(error: &io::Error) -> String {
    match error.get_ref() {
        Some(inner) if error.kind() == io::ErrorKind::InvalidData => inner.to_string(),
        _ => error.kind().to_string(),
    }
}

fn why_mute(wire: &Wire) -> String {
    let said = if wire.is_closed() { "the relay closed the connection" } else { "the relay answered no SMTP" };
    said.to_owned()
}
