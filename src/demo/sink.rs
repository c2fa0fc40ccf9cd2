//! A mail server that takes everything and keeps it: the far end of the demonstration.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A message as it arrived, dots unstuffed (RFC 5321 §4.5.2).
#[derive(Debug, Clone)]
pub struct Received {
    pub from: String,
    pub to: String,
    pub bytes: Vec<u8>,
}

/// A running server on a loopback port. It ends when it is dropped.
#[derive(Debug)]
pub struct Sink {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                // A conversation that breaks off has delivered nothing; there is nobody to tell.
                tokio::spawn(async move { drop(converse(stream, &kept).await) });
            }
        });
        Ok(Self { port, received, task })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every message so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, kept: &Mutex<Vec<Received>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    let (mut from, mut to) = (String::new(), String::new());
    write.write_all(b"220 demo.test ESMTP\r\n").await?;
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = text.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let address = || text.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let reply: &[u8] = match verb.as_str() {
            "EHLO" | "HELO" => b"250-demo.test\r\n250 8BITMIME\r\n",
            "MAIL" => {
                from = address();
                b"250 2.1.0 Ok\r\n"
            }
            "RCPT" => {
                to = address();
                b"250 2.1.5 Ok\r\n"
            }
            "DATA" => {
                write.write_all(b"354 End data with <CR><LF>.<CR><LF>\r\n").await?;
                let bytes = body(&mut lines).await?;
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(Received {
                    from: from.clone(),
                    to: to.clone(),
                    bytes,
                });
                b"250 2.0.0 Ok: kept\r\n"
            }
            "RSET" | "NOOP" => b"250 2.0.0 Ok\r\n",
            "QUIT" => {
                write.write_all(b"221 2.0.0 Bye\r\n").await?;
                return Ok(());
            }
            _ => b"502 5.5.2 Not here\r\n",
        };
        write.write_all(reply).await?;
    }
}

async fn body(lines: &mut BufReader<tokio::net::tcp::OwnedReadHalf>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.as_slice() {
            b".\r\n" => return Ok(bytes),
            [b'.', rest @ ..] => bytes.extend_from_slice(rest),
            whole => bytes.extend_from_slice(whole),
        }
    }
}
