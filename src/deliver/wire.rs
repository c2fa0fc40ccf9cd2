//! Our end of the connection, under lettre's.
//!
//! lettre reads ahead of the reply it wants, discards greetings, joins the lines of a negative reply and gives up on
//! replies that are not UTF-8. So it is handed one clean line at a time, and each reply is kept here as it came. What the
//! relay says out of turn stays here too and breaks the connection at the next write: injected before TLS it would
//! else be believed after it (as in curl, CVE-2021-22947), and before the final dot a stray 250 would pass for an acceptance.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::model::Reply;

/// Of one line; RFC 5321 §4.5.3.1.5 allows 512 octets. lettre gives up at 1000.
const LINE_KEPT: usize = 900;
/// A line that is longer is not SMTP.
const LINE_MAX: usize = 64 * 1024;
/// A reply with more lines is not SMTP.
const LINES_MAX: usize = 200;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A handle to the connection; lettre holds another. It closes with the last one.
#[derive(Clone)]
pub(super) struct Wire {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    peer: SocketAddr,
    /// `None` while TLS is agreed upon, and for good when that fails.
    stream: Option<Box<dyn Io>>,
    /// Came in and was not looked at.
    arrived: Vec<u8>,
    /// Lines for lettre, cleaned.
    given: Vec<u8>,
    /// The lines since our last command.
    reply: Vec<String>,
    closed: bool,
    /// The relay has asked for the text, and what is written is that.
    in_text: bool,
    /// The relay spoke out of turn: no reply can be told from another any more.
    out_of_step: bool,
}

/// How far a reply has come.
enum Heard {
    Whole(Reply),
    Part,
    Nonsense,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        let shared = Shared {
            peer,
            stream: Some(Box::new(stream)),
            arrived: Vec::new(),
            given: Vec::new(),
            reply: Vec::new(),
            closed: false,
            in_text: false,
            out_of_step: false,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Continues inside TLS, once the certificate proves the name.
    pub(super) async fn encrypt(&self, connector: &TlsConnector, name: ServerName<'static>) -> io::Result<()> {
        let stream = {
            let mut shared = self.lock();
            if !shared.arrived.is_empty() {
                return Err(out_of_turn());
            }
            shared.stream.take().ok_or(io::ErrorKind::NotConnected)?
        };
        let stream = connector.connect(name, stream).await?;
        self.lock().stream = Some(Box::new(stream));
        Ok(())
    }

    /// Hears the rest of a reply that lettre gave up on, or all of it; `None` when there is no sense in it.
    pub(super) async fn hear_out(&self) -> io::Result<Option<Reply>> {
        loop {
            match self.lock().heard() {
                Heard::Whole(reply) => return Ok(Some(reply)),
                Heard::Nonsense => return Ok(None),
                Heard::Part => {}
            }
            if poll_fn(|context| self.lock().poll_line(context)).await?.is_none() {
                return Ok(None);
            }
        }
    }

    /// The reply after the one that was heard, to a command that was said together with that one's.
    pub(super) async fn next_reply(&self) -> io::Result<Option<Reply>> {
        self.lock().reply.clear();
        self.hear_out().await
    }

    /// The greeting, before lettre gets to read it.
    pub(super) async fn greeting(&self) -> io::Result<Option<Reply>> {
        let reply = self.hear_out().await?;
        let mut shared = self.lock();
        for line in std::mem::take(&mut shared.reply) {
            shared.given.extend_from_slice(line.as_bytes());
            shared.given.extend_from_slice(b"\r\n");
        }
        Ok(reply)
    }

    /// The reply to our last command, once it is whole.
    pub(super) fn reply(&self) -> Option<Reply> {
        match self.lock().heard() {
            Heard::Whole(reply) => Some(reply),
            Heard::Part | Heard::Nonsense => None,
        }
    }

    /// Whether the relay has hung up.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Says something that lettre does not say for us.
    pub(super) async fn say(&mut self, text: &[u8]) -> io::Result<()> {
        self.write_all(text).await?;
        self.flush().await
    }
}

impl Shared {
    /// The next line, cleaned and noted; `None` at the end of the stream.
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<String>>> {
        if self.out_of_step {
            return Poll::Ready(Err(out_of_turn()));
        }
        loop {
            if let Some(end) = self.arrived.iter().position(|&byte| byte == b'\n') {
                let rest = self.arrived.split_off(end + 1);
                let line = clean(&std::mem::replace(&mut self.arrived, rest));
                if self.reply.len() == LINES_MAX {
                    return Poll::Ready(Err(not_smtp()));
                }
                self.reply.push(line.clone());
                return Poll::Ready(Ok(Some(line)));
            }
            if self.arrived.len() > LINE_MAX {
                return Poll::Ready(Err(not_smtp()));
            }
            let mut space = [0; 2048];
            let mut space = ReadBuf::new(&mut space);
            ready!(Pin::new(self.stream()?).poll_read(context, &mut space))?;
            if space.filled().is_empty() {
                self.closed = true;
                return Poll::Ready(Ok(None));
            }
            self.arrived.extend_from_slice(space.filled());
        }
    }

    /// Takes in what has come by now, without waiting, and tells whether it is a refusal, which ends the text. Anything
    /// else is out of turn there.
    fn refuses_in_text(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut space = [0; 512];
        let mut space = ReadBuf::new(&mut space);
        if let Poll::Ready(heard) = Pin::new(self.stream()?).poll_read(context, &mut space) {
            heard?;
            self.closed |= space.filled().is_empty();
            self.arrived.extend_from_slice(space.filled());
        }
        Ok(self.given.is_empty() && matches!(self.arrived.first(), Some(b'4' | b'5')))
    }

    fn stream(&mut self) -> io::Result<&mut Box<dyn Io>> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn heard(&self) -> Heard {
        let mut code = None;
        let mut text = Vec::new();
        for line in &self.reply {
            let (Some(digits), Some(mark), Some(rest)) = (line.get(..3), line.get(3..4), line.get(4..)) else {
                return Heard::Nonsense;
            };
            let number = digits.parse().ok().filter(|number| (200..=599_u16).contains(number));
            if number.is_none() || code.is_some_and(|code| Some(code) != number) {
                return Heard::Nonsense;
            }
            code = number;
            text.push(rest);
            match (mark, number) {
                (" ", Some(code)) => return Heard::Whole(Reply { code, text: text.join("\n") }),
                ("-", _) => {}
                _ => return Heard::Nonsense,
            }
        }
        Heard::Part
    }
}

/// A line without its end, in UTF-8, without control characters (PostgreSQL keeps no NUL), of bounded length. A bare
/// code gets the space that RFC 5321 §4.2 lets it lack and lettre wants.
fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut line = String::new();
    for c in text.trim_end_matches(['\r', '\n']).chars() {
        if line.len() >= LINE_KEPT {
            break;
        }
        line.push(match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        });
    }
    if line.len() == 3 {
        line.push(' ');
    }
    line
}

fn out_of_turn() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the relay spoke out of turn")
}

fn not_smtp() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the relay answered without end")
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        if shared.given.is_empty() {
            let Some(line) = ready!(shared.poll_line(context))? else { return Poll::Ready(Ok(())) };
            shared.given.extend_from_slice(line.as_bytes());
            shared.given.extend_from_slice(b"\r\n");
        }
        let count = shared.given.len().min(buffer.remaining());
        buffer.put_slice(&shared.given[..count]);
        shared.given.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = self.lock();
        shared.in_text = match shared.reply.first() {
            Some(asked) => asked.starts_with("354"),
            None => shared.in_text,
        };
        if shared.in_text && shared.refuses_in_text(context)? {
            shared.reply.clear();
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // Also when the write fails: the last reply must not pass for one to this command.
        shared.reply.clear();
        shared.out_of_step |= !shared.arrived.is_empty() || !shared.given.is_empty();
        if shared.out_of_step {
            return Poll::Ready(Err(out_of_turn()));
        }
        Pin::new(shared.stream()?).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.lock().stream()?).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.lock().stream()?).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.lock().peer)
    }
}

impl std::fmt::Debug for Wire {
    /// Without anything that was said on it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("peer", &self.lock().peer).finish_non_exhaustive()
    }
}
