//! A scripted SMTP server: a real conversation on the loopback, in which anything can go wrong on request.
//!
//! ```ignore
//! let server = SmtpServer::start().await;
//! server.on(Phase::RcptTo, Reply::code(550, "5.1.1 no such user"));
//! server.once(Phase::Dot, Reply::stall());
//! assert_eq!(server.messages().len(), 0);
//! ```

#![expect(clippy::unwrap_used, reason = "a server that cannot start fails its test")]

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// Where in the conversation the script interferes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In place of the greeting.
    Greeting,
    Ehlo,
    StartTls,
    /// In place of the handshake.
    Handshake,
    Auth,
    MailFrom,
    RcptTo,
    /// In place of the 354.
    Data,
    /// After the first line of the message.
    Body,
    /// In place of the reply to the final dot.
    Dot,
    Rset,
    Quit,
}

/// What the server does instead of answering as it should.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    delay: Duration,
    bytes: Vec<u8>,
    end: End,
    code: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    GoOn,
    /// Says no more and reads no more, with the connection open.
    Stall,
    Close,
    /// RST instead of FIN.
    Reset,
}

impl Reply {
    /// A reply of one line.
    pub(crate) fn code(code: u16, text: &str) -> Self {
        Self::lines(code, &[text])
    }

    /// A reply of several lines.
    pub(crate) fn lines(code: u16, lines: &[&str]) -> Self {
        let last = lines.len() - 1;
        let line = |(at, text): (usize, &&str)| format!("{code}{}{text}\r\n", if at == last { ' ' } else { '-' });
        Self { code, ..Self::raw(lines.iter().enumerate().map(line).collect::<String>().as_bytes()) }
    }

    /// These bytes, whatever they mean.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        let code = bytes.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok()).unwrap_or(0);
        Self { delay: Duration::ZERO, bytes: bytes.to_vec(), end: End::GoOn, code }
    }

    /// Silence for ever.
    pub(crate) fn stall() -> Self {
        Self::raw(b"").end(End::Stall)
    }

    /// FIN, without a word.
    pub(crate) fn close() -> Self {
        Self::raw(b"").end(End::Close)
    }

    /// RST, without a word.
    pub(crate) fn reset() -> Self {
        Self::raw(b"").end(End::Reset)
    }

    /// Only after that time.
    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// And then FIN.
    pub(crate) fn then_close(self) -> Self {
        self.end(End::Close)
    }

    fn end(self, end: End) -> Self {
        Self { end, ..self }
    }
}

/// What the server is, before it starts.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What EHLO offers besides STARTTLS and AUTH.
    pub(crate) extensions: Vec<String>,
    /// Offers STARTTLS.
    pub(crate) start_tls: bool,
    /// TLS from the first byte.
    pub(crate) implicit_tls: bool,
    /// The name in the certificate.
    pub(crate) certificate_name: String,
    /// The certificate was good once.
    pub(crate) certificate_expired: bool,
    /// Mechanisms on offer (once TLS stands, if there is any), and the one login that is right.
    pub(crate) mechanisms: Vec<&'static str>,
    pub(crate) login: Option<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            extensions: ["PIPELINING", "SIZE 10240000", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES"]
                .map(Into::into)
                .into(),
            start_tls: false,
            implicit_tls: false,
            certificate_name: "localhost".into(),
            certificate_expired: false,
            mechanisms: Vec::new(),
            login: None,
        }
    }
}

/// A message whose final dot came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// Without the stuffed dots, up to the dot.
    pub(crate) bytes: Vec<u8>,
    pub(crate) message_id: String,
    pub(crate) at: Instant,
    pub(crate) tls: bool,
    /// Who had logged in.
    pub(crate) user: Option<String>,
    pub(crate) connection: usize,
    /// Whether it was answered with a 2xx.
    pub(crate) accepted: bool,
    /// When its recipient was granted: the last check comes later.
    pub(crate) granted: Instant,
}

struct Rule {
    phase: Phase,
    recipient: Option<String>,
    /// Which time of this phase (or this recipient), from 1; every time if `None`.
    nth: Option<usize>,
    seen: usize,
    reply: Reply,
}

#[derive(Default)]
struct Record {
    rules: Vec<Rule>,
    received: Vec<Received>,
    commands: Vec<String>,
    connections: usize,
}

struct Shared {
    options: Options,
    acceptor: Option<TlsAcceptor>,
    record: Mutex<Record>,
}

/// The server. Stops when dropped.
pub(crate) struct SmtpServer {
    pub(crate) address: SocketAddr,
    ca: Option<(tempfile::TempDir, PathBuf)>,
    shared: Arc<Shared>,
    task: Mutex<JoinHandle<()>>,
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.task.lock().unwrap().abort();
    }
}

impl SmtpServer {
    /// A plain server that accepts everything.
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// A server like that.
    pub(crate) async fn with(options: Options) -> Self {
        let (acceptor, ca) = if options.start_tls || options.implicit_tls {
            let (config, ca) = certificate(&options);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ca.pem");
            std::fs::write(&path, ca).unwrap();
            (Some(TlsAcceptor::from(Arc::new(config))), Some((folder, path)))
        } else {
            (None, None)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { options, acceptor, record: Mutex::default() });
        let task = Mutex::new(tokio::spawn(serve(listener, Arc::clone(&shared))));
        Self { address, ca, shared, task }
    }

    /// Ends as a process that is killed: every conversation breaks off, and nobody listens any more.
    pub(crate) async fn stop(&self) {
        let task = {
            let mut task = self.task.lock().unwrap();
            task.abort();
            std::mem::replace(&mut *task, tokio::spawn(async {}))
        };
        let _ = task.await;
    }

    /// Listens again, where it did before.
    pub(crate) async fn go_on(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.task.lock().unwrap() = tokio::spawn(serve(listener, Arc::clone(&self.shared)));
    }

    /// The certificate to trust.
    pub(crate) fn ca_file(&self) -> &Path {
        &self.ca.as_ref().unwrap().1
    }

    /// Does that each time. A later rule goes before an earlier one.
    pub(crate) fn on(&self, phase: Phase, reply: Reply) {
        self.rule(phase, None, None, reply);
    }

    /// Does that the next time only.
    pub(crate) fn once(&self, phase: Phase, reply: Reply) {
        self.on_nth(phase, 1, reply);
    }

    /// Does that the nth time from now, counted from 1.
    pub(crate) fn on_nth(&self, phase: Phase, nth: usize, reply: Reply) {
        self.rule(phase, None, Some(nth), reply);
    }

    /// Does that for one recipient: at RCPT, or later in a transaction that is for it.
    pub(crate) fn on_recipient(&self, phase: Phase, recipient: &str, reply: Reply) {
        self.rule(phase, Some(recipient.to_owned()), None, reply);
    }

    /// The messages that were answered with a 2xx (or would have been, had the answer not been swallowed).
    pub(crate) fn messages(&self) -> Vec<Received> {
        self.received().into_iter().filter(|message| message.accepted).collect()
    }

    /// Every message whose final dot came.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.record().received.clone()
    }

    /// Looks at those that were taken, as [`SmtpServer::messages`] gives them.
    pub(crate) fn each_message(&self, mut look: impl FnMut(&Received)) {
        self.record().received.iter().filter(|message| message.accepted).for_each(&mut look);
    }

    /// How many those are.
    pub(crate) fn received_count(&self) -> usize {
        self.record().received.len()
    }

    /// Every command line, of all connections.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.record().commands.clone()
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.record().connections
    }

    fn rule(&self, phase: Phase, recipient: Option<String>, nth: Option<usize>, reply: Reply) {
        self.record().rules.insert(0, Rule { phase, recipient, nth, seen: 0, reply });
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.shared.record.lock().unwrap()
    }
}

/// Conversations end with it.
async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut conversations = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        conversations.spawn(converse(Arc::clone(&shared), stream));
    }
}

/// A server with a certificate like that, and the authority that signed it, in PEM.
fn certificate(options: &Options) -> (ServerConfig, String) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec![options.certificate_name.clone()]).unwrap();
    if options.certificate_expired {
        leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (config, ca_pem)
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn io(&mut self) -> &mut dyn Io {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream,
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

struct Conversation {
    shared: Arc<Shared>,
    stream: Stream,
    buffer: Vec<u8>,
    number: usize,
    tls: bool,
    user: Option<String>,
    from: Option<String>,
    to: Vec<String>,
    granted: Instant,
}

/// Why a conversation is over: all is said, or the peer has gone.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

async fn converse(shared: Arc<Shared>, stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let number = {
        let mut record = shared.record.lock().unwrap();
        record.connections += 1;
        record.connections
    };
    let mut conversation = Conversation {
        stream: Stream::Plain(stream),
        buffer: Vec::new(),
        number,
        tls: false,
        user: None,
        from: None,
        to: Vec::new(),
        granted: Instant::now(),
        shared,
    };
    if conversation.shared.options.implicit_tls {
        let Ok(encrypted) = conversation.encrypt().await else { return };
        conversation = encrypted;
    }
    conversation.run().await;
}

impl Conversation {
    async fn encrypt(self) -> Result<Self, Over> {
        let Self { shared, stream: Stream::Plain(stream), number, .. } = self else { return Err(Over) };
        let acceptor = shared.acceptor.clone().unwrap();
        let stream = Stream::Tls(Box::new(acceptor.accept(stream).await?));
        let granted = Instant::now();
        Ok(Self {
            shared,
            stream,
            buffer: Vec::new(),
            number,
            tls: true,
            user: None,
            from: None,
            to: Vec::new(),
            granted,
        })
    }

    async fn run(mut self) {
        if self.answer(Phase::Greeting, Reply::code(220, "test ESMTP")).await.is_err() {
            return;
        }
        while let Ok(line) = self.line().await {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.shared.record.lock().unwrap().commands.push(line.clone());
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            if verb == "STARTTLS" {
                let Ok(code) = self.answer(Phase::StartTls, Reply::code(220, "2.0.0 go ahead")).await else { return };
                if code == 220 {
                    if let Some(reply) = self.scripted(Phase::Handshake) {
                        let _ = self.say(&reply).await;
                        return;
                    }
                    match self.encrypt().await {
                        Ok(encrypted) => self = encrypted,
                        Err(Over) => return,
                    }
                }
                continue;
            }
            if self.obey(&verb, &line).await.is_err() {
                return;
            }
        }
    }

    async fn obey(&mut self, verb: &str, line: &str) -> Result<(), Over> {
        match verb {
            "EHLO" => {
                let reply = self.hello();
                self.answer(Phase::Ehlo, reply).await?;
            }
            "AUTH" => self.log_in(line).await?,
            "MAIL" => {
                if self.answer(Phase::MailFrom, Reply::code(250, "2.1.0 Ok")).await? / 100 == 2 {
                    self.from = Some(path(line));
                }
            }
            "RCPT" => {
                self.to.push(path(line));
                // Before the answer is out, so that nothing that follows from it can seem earlier.
                self.granted = Instant::now();
                if self.answer(Phase::RcptTo, Reply::code(250, "2.1.5 Ok")).await? / 100 != 2 {
                    self.to.pop();
                }
            }
            "DATA" => {
                let go_on = if self.from.is_some() && !self.to.is_empty() {
                    Reply::code(354, "go ahead")
                } else {
                    Reply::code(503, "5.5.1 no recipient")
                };
                if self.answer(Phase::Data, go_on).await? == 354 {
                    self.message().await?;
                }
            }
            "RSET" => {
                (self.from, self.to) = (None, Vec::new());
                self.answer(Phase::Rset, Reply::code(250, "2.0.0 Ok")).await?;
            }
            "QUIT" => {
                self.answer(Phase::Quit, Reply::code(221, "2.0.0 Bye").then_close()).await?;
            }
            _ => {
                self.say(&Reply::code(502, "5.5.2 not here")).await?;
            }
        }
        Ok(())
    }

    fn hello(&self) -> Reply {
        let options = &self.shared.options;
        let mut lines = vec!["test greets you".to_owned()];
        lines.extend(options.extensions.iter().cloned());
        if options.start_tls && !self.tls {
            lines.push("STARTTLS".into());
        }
        if !options.mechanisms.is_empty() && (self.tls || self.shared.acceptor.is_none()) {
            lines.push(format!("AUTH {}", options.mechanisms.join(" ")));
        }
        Reply::lines(250, &lines.iter().map(String::as_str).collect::<Vec<_>>())
    }

    async fn log_in(&mut self, line: &str) -> Result<(), Over> {
        let decode = |text: &str| String::from_utf8(BASE64_STANDARD.decode(text.trim()).unwrap()).unwrap();
        let mut words = line.split(' ').skip(1);
        let login = if words.next() == Some("PLAIN") {
            let text = decode(words.next().unwrap());
            let mut parts = text.split('\0').skip(1).map(str::to_owned);
            (parts.next().unwrap(), parts.next().unwrap())
        } else {
            let mut answers = Vec::new();
            for question in ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"] {
                self.say(&Reply::code(334, question)).await?;
                answers.push(decode(&String::from_utf8_lossy(&self.line().await?)));
            }
            (answers.remove(0), answers.remove(0))
        };
        let right = self.shared.options.login.as_ref() == Some(&login);
        let reply = if right { Reply::code(235, "2.7.0 welcome") } else { Reply::code(535, "5.7.8 who are you?") };
        if self.answer(Phase::Auth, reply).await? == 235 {
            self.user = Some(login.0);
        }
        Ok(())
    }

    async fn message(&mut self) -> Result<(), Over> {
        let mut bytes = Vec::new();
        loop {
            let line = self.line().await?;
            if line == b".\r\n" {
                break;
            }
            bytes.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            if let Some(reply) = self.scripted(Phase::Body) {
                self.say(&reply).await?;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap_or_default().to_owned();
        let reply = self.scripted(Phase::Dot).unwrap_or_else(|| Reply::code(250, "2.0.0 Ok: queued as 4F2A"));
        let message = Received {
            from: self.from.take().unwrap_or_default(),
            to: std::mem::take(&mut self.to),
            bytes,
            message_id: id,
            at: Instant::now(),
            tls: self.tls,
            user: self.user.clone(),
            connection: self.number,
            // Who says nothing after the dot has taken the message all the same.
            accepted: matches!(reply.code, 0 | 200..=299),
            granted: self.granted,
        };
        self.shared.record.lock().unwrap().received.push(message);
        self.say(&reply).await
    }

    /// Answers as scripted, or as given; returns the code.
    async fn answer(&mut self, phase: Phase, usual: Reply) -> Result<u16, Over> {
        let reply = self.scripted(phase).unwrap_or(usual);
        self.say(&reply).await?;
        Ok(reply.code)
    }

    fn scripted(&self, phase: Phase) -> Option<Reply> {
        let mut record = self.shared.record.lock().unwrap();
        let mut found = None;
        for rule in &mut record.rules {
            if rule.phase == phase && rule.recipient.as_ref().is_none_or(|recipient| self.to.contains(recipient)) {
                rule.seen += 1;
                if found.is_none() && rule.nth.is_none_or(|nth| nth == rule.seen) {
                    found = Some(rule.reply.clone());
                }
            }
        }
        found
    }

    async fn say(&mut self, reply: &Reply) -> Result<(), Over> {
        tokio::time::sleep(reply.delay).await;
        self.stream.io().write_all(&reply.bytes).await?;
        self.stream.io().flush().await?;
        match reply.end {
            End::GoOn => return Ok(()),
            End::Stall => std::future::pending().await,
            End::Close => {}
            End::Reset => self.stream.socket().set_zero_linger()?,
        }
        Err(Over)
    }

    async fn line(&mut self) -> Result<Vec<u8>, Over> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                return Ok(self.buffer.drain(..=end).collect());
            }
            if self.stream.io().read_buf(&mut self.buffer).await? == 0 {
                return Err(Over);
            }
        }
    }
}

fn path(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned()).unwrap_or_default()
}
