//! Real conversations with a relay in which everything that can go wrong does, and the bytes they are about.

#![expect(clippy::unwrap_used, reason = "what tests call fails like a test")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;
use dunningd::deliver::{
    BuildError, Credentials, DeliveryError, Envelope, FileTransport, ReadyForData, Relay, Security, Session,
    SettingsError, SmtpSettings, build,
};
use dunningd::model::{
    Attachment, DisplayName, EmailAddress, Fault, Language, Mail, Mailbox, Outcome, Rendered, Reply as Answer,
};
use dunningd::model::{NoticeState, Phase as At, Timeouts};
use mail_parser::{MessageParser, MimeHeaders as _};

use crate::support::smtp::{Options, Phase, Reply, SmtpServer};

fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn mailbox(name: &str, at: &str) -> Mailbox {
    Mailbox { name: DisplayName::of(name), address: address(at) }
}

fn mail() -> Mail {
    Mail {
        from: mailbox("Società Rossi & Figli", "crediti@rossi.example"),
        reply_to: mailbox("", "risposte@rossi.example"),
        to: mailbox("Zażółć Sp. z o.o.", "office@dluznik.example"),
        message_id: "<n.0190a1b2-0000-7000-8000-000000000001@rossi.example>".into(),
        references: vec![
            "<n.0190a1b2-0000-7000-8000-00000000000a@rossi.example>".into(),
            "<n.0190a1b2-0000-7000-8000-00000000000b@rossi.example>".into(),
        ],
        date: DateTime::parse_from_rfc3339("2026-03-02T10:15:00+01:00").unwrap(),
        language: Language::It,
    }
}

fn rendered() -> Rendered {
    Rendered {
        subject: "Sollecito: fattura n. 17/2026 è scaduta".into(),
        text: "Gentile cliente,\n.\n..due punti\nla fattura 17/2026 di € 1.200,00 è scaduta.\n".into(),
        html: "<p>Gentile cliente,</p>\n<p>la fattura 17/2026 di € 1.200,00 è scaduta.</p>\n".into(),
        attachments: vec![Attachment {
            file_name: "open-items.csv".into(),
            content_type: "text/csv; charset=utf-8".into(),
            bytes: b"invoice;open\n17/2026;1200,00\n".to_vec(),
        }],
    }
}

fn simple(number: usize) -> Vec<u8> {
    let mut mail = mail();
    mail.message_id = format!("<n.{number}@rossi.example>");
    let text = format!(".\n..\nnumber {number}\n.hidden\n");
    build(&mail, &Rendered { text, attachments: Vec::new(), ..rendered() }).unwrap()
}

// --- the bytes -------------------------------------------------------------------------------------------------------

#[test]
fn the_same_letter_gives_these_bytes_and_no_others() {
    let bytes = build(&mail(), &rendered()).unwrap();
    assert_eq!(bytes, build(&mail(), &rendered()).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/deliver/letter.eml");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    let expected = std::fs::read(&path).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&expected));
}

#[test]
fn a_mail_program_reads_what_was_written() {
    let bytes = build(&mail(), &rendered()).unwrap();
    assert!(bytes.is_ascii());
    let message = MessageParser::default().parse(&bytes).unwrap();
    let from = message.from().unwrap().first().unwrap();
    assert_eq!((from.name(), from.address()), (Some("Società Rossi & Figli"), Some("crediti@rossi.example")));
    let to = message.to().unwrap().first().unwrap();
    assert_eq!((to.name(), to.address()), (Some("Zażółć Sp. z o.o."), Some("office@dluznik.example")));
    assert_eq!(message.reply_to().unwrap().first().unwrap().address(), Some("risposte@rossi.example"));
    assert_eq!(message.subject(), Some("Sollecito: fattura n. 17/2026 è scaduta"));
    assert_eq!(message.date().unwrap().to_rfc3339(), "2026-03-02T10:15:00+01:00");
    assert_eq!(message.message_id(), Some("n.0190a1b2-0000-7000-8000-000000000001@rossi.example"));
    assert_eq!(message.in_reply_to().as_text(), Some("n.0190a1b2-0000-7000-8000-00000000000b@rossi.example"));
    assert_eq!(message.references().as_text_list().unwrap().len(), 2);
    assert_eq!(message.header_raw("Auto-Submitted").unwrap().trim(), "auto-generated");
    assert_eq!(message.header_raw("Content-Language").unwrap().trim(), "it");
    assert_eq!(message.header_raw("MIME-Version").unwrap().trim(), "1.0");

    assert_eq!(message.body_text(0).unwrap().replace("\r\n", "\n"), rendered().text);
    assert_eq!(message.body_html(0).unwrap().replace("\r\n", "\n"), rendered().html);
    let file = message.attachment(0).unwrap();
    assert_eq!(file.attachment_name(), Some("open-items.csv"));
    assert_eq!(file.contents(), rendered().attachments[0].bytes);
    let kinds: Vec<_> =
        message.parts.iter().filter_map(|part| part.content_type()).map(|kind| kind.subtype().unwrap_or("")).collect();
    assert_eq!(kinds, ["mixed", "alternative", "plain", "html", "csv"]);
}

#[test]
fn a_name_cannot_become_an_address_or_a_header() {
    let hostile = r#"Rossi" <boss@bank.example>, "x\"#;
    let mut mail = mail();
    mail.to.name = DisplayName::of(hostile);
    let bytes = build(&mail, &rendered()).unwrap();
    let message = MessageParser::default().parse(&bytes).unwrap();
    let to: Vec<_> = message.to().unwrap().iter().map(|to| (to.name(), to.address())).collect();
    assert_eq!(to, [(Some(hostile), Some("office@dluznik.example"))]);
}

#[test]
fn what_could_mislead_its_reader_is_not_written() {
    type Spoil = fn(&mut Mail, &mut Rendered);
    let cases: [(Spoil, BuildError); 15] = [
        (|_, r| r.subject = "a\r\nBcc: all@example.com".into(), BuildError::Hostile("the subject")),
        (|_, r| r.subject = "a\u{202E}b".into(), BuildError::Hostile("the subject")),
        (|_, r| r.subject = "  ".into(), BuildError::Empty("the subject")),
        (|_, r| r.subject = "=?utf-8?b?DQo=?=".into(), BuildError::EncodedWord("the subject")),
        (|m, _| m.from.address = address("zażółć@rossi.example"), BuildError::Address("the sender")),
        (|m, _| m.message_id = "n.1@rossi.example".into(), BuildError::MessageId("the Message-ID")),
        (|m, _| m.message_id = "<n.1@rossi>\r\nX: y".into(), BuildError::MessageId("the Message-ID")),
        (|m, _| m.references = vec!["<a b@c>".into()], BuildError::MessageId("a reference")),
        (|m, _| m.date = DateTime::parse_from_rfc3339("1969-12-31T00:00:00Z").unwrap(), BuildError::Date),
        (|_, r| r.attachments[0].file_name = "счёт.pdf".into(), BuildError::FileName),
        (|_, r| r.attachments[0].file_name = "../a.pdf".into(), BuildError::FileName),
        (|_, r| r.attachments[0].content_type = "nonsense".into(), BuildError::ContentType),
        (|_, r| r.text = "a\rb\n".into(), BuildError::LineEnd),
        (|_, r| r.attachments[0].content_type = "text/csv\r\nX: y".into(), BuildError::ContentType),
        (|_, r| r.text = "--=_b27b0d8c4f2a5e408218da0c_mixed".into(), BuildError::Boundary),
    ];
    for (number, (spoil, error)) in cases.into_iter().enumerate() {
        let (mut mail, mut rendered) = (mail(), rendered());
        spoil(&mut mail, &mut rendered);
        assert_eq!(build(&mail, &rendered), Err(error), "case {number}");
    }
}

#[test]
fn a_recipient_outside_ascii_is_written_as_it_is_and_nothing_else_is() {
    let mut mail = mail();
    mail.to = mailbox("Zażółć", "zażółć@dłużnik.example");
    let bytes = build(&mail, &rendered()).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let raw: Vec<&str> = text.lines().filter(|line| !line.is_ascii()).collect();
    assert_eq!(raw.len(), 1);
    assert!(raw[0].contains("<zażółć@xn--dunik-k7a12b.example>"), "{raw:?}");
}

// --- the conversation ------------------------------------------------------------------------------------------------

fn settings(server: &SmtpServer) -> SmtpSettings {
    // For silence to end soon, and for a busy machine to answer in time.
    let short = Duration::from_secs(1);
    SmtpSettings {
        host: "localhost".into(),
        port: server.address.port(),
        security: Security::Plain,
        ca_file: None,
        hello_name: "dunning.rossi.example".into(),
        credentials: None,
        notify_success: false,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            greeting: short,
            hello: short,
            start_tls: Duration::from_secs(5),
            auth: short,
            mail_from: short,
            rcpt_to: short,
            data: short,
            body: short,
            dot: short,
            reset: short,
        },
    }
}

async fn session(server: &SmtpServer) -> Session {
    Relay::new(settings(server)).unwrap().connect().await.unwrap()
}

async fn envelope(session: Session, to: &str, bytes: &[u8]) -> Result<ReadyForData, (Option<Session>, Outcome)> {
    let (from, to) = (address("crediti@rossi.example"), address(to));
    session.envelope(&Envelope { from: &from, to: &to, id: "0190a1b2-0000-7000-8000-00000000000c", bytes }).await
}

async fn send(session: Session, to: &str, bytes: &[u8]) -> (Option<Session>, Outcome) {
    match envelope(session, to, bytes).await {
        Ok(ready) => ready.data(bytes, || true).await,
        Err(end) => end,
    }
}

/// One message in a conversation that goes wrong like that: the same whether sender and recipient go one by one or
/// together.
async fn send_when(phase: Phase, reply: Reply) -> (bool, Outcome) {
    let one_by_one = send_over(offering(&["8BITMIME"]).await, phase, reply.clone()).await;
    let together = send_over(SmtpServer::start().await, phase, reply).await;
    // A relay that closes at MAIL throws away what was said with it.
    if together != (false, silent(At::MailFrom, RESET)) {
        assert_eq!(together, one_by_one);
    }
    one_by_one
}

async fn send_over(server: SmtpServer, phase: Phase, reply: Reply) -> (bool, Outcome) {
    server.once(phase, reply);
    let (session, outcome) = send(session(&server).await, "office@dluznik.example", &simple(1)).await;
    if let Some(session) = session {
        // Whatever happened, the next message on the same connection gets its own reply and no other.
        let (_, next) = send(session, "next@dluznik.example", &simple(2)).await;
        assert_eq!(next, accepted());
        assert_eq!(server.messages().last().unwrap().bytes, simple(2));
        assert_eq!(server.connections(), 1);
        return (true, outcome);
    }
    (false, outcome)
}

fn accepted() -> Outcome {
    Outcome::Accepted { reply: answer(250, "2.0.0 Ok: queued as 4F2A") }
}

fn answer(code: u16, text: &str) -> Answer {
    Answer { code, text: text.into() }
}

fn deferred(phase: At, code: u16, text: &str, fault: Fault) -> Outcome {
    let detail = format!("the relay answered {code}");
    Outcome::Deferred { phase, reply: Some(answer(code, text)), detail, fault }
}

fn refused_by(phase: At, code: u16, text: &str, fault: Fault) -> Outcome {
    let detail = format!("the relay answered {code}");
    Outcome::Refused { phase, reply: Some(answer(code, text)), detail, fault }
}

fn silent(phase: At, detail: &str) -> Outcome {
    Outcome::Deferred { phase, reply: None, detail: detail.into(), fault: Fault::Relay }
}

fn unknown(phase: At, detail: &str) -> Outcome {
    Outcome::Unknown { phase, detail: detail.into() }
}

const LATE: &str = "no answer within 1 s";
const CLOSED: &str = "the relay closed the connection";
const RESET: &str = "connection reset";

#[tokio::test]
async fn a_message_arrives_byte_for_byte_and_its_reply_is_kept_word_for_word() {
    let server = SmtpServer::start().await;
    server.once(Phase::Dot, Reply::lines(250, &["2.0.0 Ok", "2.0.0 queued as 4F2A"]));
    let bytes = build(&mail(), &rendered()).unwrap();
    let session = session(&server).await;
    // A worker is a task.
    let sending = tokio::spawn({
        let bytes = bytes.clone();
        async move { send(session, "office@dluznik.example", &bytes).await }
    });
    let (session, outcome) = sending.await.unwrap();
    assert_eq!(outcome, Outcome::Accepted { reply: answer(250, "2.0.0 Ok\n2.0.0 queued as 4F2A") });
    assert_eq!(outcome.state(), NoticeState::Accepted);
    let session = session.unwrap();
    assert_eq!(session.accepted(), 1);
    assert!(session.age() < Duration::from_mins(1));
    session.quit().await;

    let [message] = &server.messages()[..] else { panic!("one message") };
    assert_eq!(message.bytes, bytes);
    assert_eq!(
        (message.from.as_str(), &message.to[..]),
        ("crediti@rossi.example", &["office@dluznik.example".into()][..])
    );
    assert_eq!(message.message_id, mail().message_id);
    assert_eq!((message.tls, message.user.as_deref()), (false, None));
    assert_eq!(server.commands().first().unwrap(), "EHLO dunning.rossi.example");
    assert_eq!(server.commands().last().unwrap(), "QUIT");
}

#[tokio::test]
async fn fifty_messages_on_one_connection_arrive_byte_for_byte_with_their_dots() {
    let server = SmtpServer::start().await;
    let mut session = session(&server).await;
    for number in 0..50 {
        let (next, outcome) = send(session, "office@dluznik.example", &simple(number)).await;
        assert_eq!(outcome, accepted());
        session = next.unwrap();
    }
    assert_eq!((session.accepted(), server.connections()), (50, 1));
    let messages = server.messages();
    assert_eq!(messages.len(), 50);
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message.bytes, simple(number));
        assert!(message.bytes.windows(5).any(|line| line == b"\r\n.\r\n"), "a lone dot is in it");
        assert_eq!(message.connection, 1);
    }
    assert!(messages.is_sorted_by_key(|message| message.at));
}

#[tokio::test]
async fn a_large_message_arrives_whole() {
    let server = SmtpServer::start().await;
    let mut rendered = rendered();
    rendered.attachments[0].bytes = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let bytes = build(&mail(), &rendered).unwrap();
    let mut settings = settings(&server);
    (settings.timeouts.body, settings.timeouts.dot) = (Duration::from_secs(30), Duration::from_secs(30));
    let session = Relay::new(settings).unwrap().connect().await.unwrap();
    assert_eq!(send(session, "office@dluznik.example", &bytes).await.1, accepted());
    assert!(server.messages()[0].bytes == bytes);
}

#[tokio::test]
async fn a_refused_recipient_is_refused_and_the_next_message_on_the_connection_is_fine() {
    let text = "5.1.1 <nobody@dluznik.example>: unknown";
    let server = SmtpServer::start().await;
    server.on_recipient(Phase::RcptTo, "nobody@dluznik.example", Reply::lines(550, &[text, "5.1.1 see our site"]));
    let (session, outcome) = send(session(&server).await, "nobody@dluznik.example", &simple(1)).await;
    let text = format!("{text}\n5.1.1 see our site");
    assert_eq!(outcome, refused_by(At::RcptTo, 550, &text, Fault::Recipient));
    let (_, outcome) = send(session.unwrap(), "office@dluznik.example", &simple(2)).await;
    assert_eq!(outcome, accepted());
    assert_eq!(server.received().len(), 1);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_reply_to_the_recipient_or_the_content_keeps_the_connection() {
    let cases = [
        (Phase::RcptTo, At::RcptTo, Fault::Recipient),
        (Phase::Data, At::Data, Fault::Recipient),
        (Phase::Dot, At::Dot, Fault::Content),
    ];
    for (phase, at, fault) in cases {
        let (goes_on, outcome) = send_when(phase, Reply::code(451, "4.7.1 greylisted")).await;
        assert_eq!((goes_on, outcome), (true, deferred(at, 451, "4.7.1 greylisted", fault)));
        // 571 is no code of RFC 5321, but relays say it.
        for code in [554, 571] {
            let (goes_on, outcome) = send_when(phase, Reply::code(code, "5.7.1 spam")).await;
            assert_eq!((goes_on, outcome), (true, refused_by(at, code, "5.7.1 spam", fault)));
        }
    }
}

#[tokio::test]
async fn a_relay_that_leaves_is_left() {
    let leaving = || Reply::code(421, "4.3.2 shutting down").then_close();
    for (phase, at) in
        [(Phase::MailFrom, At::MailFrom), (Phase::RcptTo, At::RcptTo), (Phase::Data, At::Data), (Phase::Dot, At::Dot)]
    {
        let (goes_on, outcome) = send_when(phase, leaving()).await;
        assert_eq!((goes_on, outcome), (false, deferred(at, 421, "4.3.2 shutting down", Fault::Relay)));
    }
    // After the text it may be the text that makes it leave.
    let (goes_on, outcome) = send_when(Phase::Dot, Reply::code(421, "4.7.0 not from you").then_close()).await;
    assert_eq!((goes_on, outcome), (false, deferred(At::Dot, 421, "4.7.0 not from you", Fault::Content)));
}

#[tokio::test]
async fn a_refused_sender_is_our_fault_and_keeps_the_connection() {
    for code in [451, 550] {
        let (goes_on, outcome) = send_when(Phase::MailFrom, Reply::code(code, "x.1.8 bad sender")).await;
        assert_eq!((goes_on, outcome), (true, deferred(At::MailFrom, code, "x.1.8 bad sender", Fault::Sender)));
    }
}

#[tokio::test]
async fn a_connection_that_will_not_reset_is_not_used_again() {
    for refusal in [Reply::code(500, "what?"), Reply::stall(), Reply::close()] {
        let server = SmtpServer::start().await;
        server.on(Phase::RcptTo, Reply::code(550, "no"));
        server.on(Phase::Rset, refusal);
        let (session, outcome) = send(session(&server).await, "office@dluznik.example", &simple(1)).await;
        assert!(session.is_none());
        assert_eq!(outcome, refused_by(At::RcptTo, 550, "no", Fault::Recipient));
    }
}

#[tokio::test]
async fn silence_before_the_body_means_that_nothing_was_sent() {
    for (phase, at) in [(Phase::MailFrom, At::MailFrom), (Phase::RcptTo, At::RcptTo), (Phase::Data, At::Data)] {
        for (reply, detail) in [(Reply::stall(), LATE), (Reply::close(), CLOSED), (Reply::reset(), RESET)] {
            assert_eq!(send_when(phase, reply).await, (false, silent(at, detail)));
        }
    }
}

#[tokio::test]
async fn silence_after_the_final_dot_is_unknown_and_ends_the_connection() {
    for (reply, detail) in [(Reply::stall(), LATE), (Reply::close(), CLOSED), (Reply::reset(), RESET)] {
        assert_eq!(send_when(Phase::Dot, reply).await, (false, unknown(At::Dot, detail)));
    }
    let late = Reply::code(250, "2.0.0 Ok").after(Duration::from_secs(2));
    assert_eq!(send_when(Phase::Dot, late).await, (false, unknown(At::Dot, LATE)));
    let half = Reply::raw(b"250-2.0.0 Ok\r\n250 que").then_close();
    assert_eq!(send_when(Phase::Dot, half).await, (false, unknown(At::Dot, CLOSED)));
}

#[tokio::test]
async fn a_reply_after_the_final_dot_that_is_no_reply_is_unknown() {
    for raw in ["354 go\r\n", "nonsense\r\n", "250-a\r\n550 b\r\n", "25\r\n", "650 x\r\n"] {
        let (goes_on, outcome) = send_when(Phase::Dot, Reply::raw(raw.as_bytes())).await;
        assert!(!goes_on, "{raw}");
        assert!(matches!(outcome, Outcome::Unknown { phase: At::Dot, .. }), "{raw}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_late_reply_within_its_time_counts() {
    let late = Reply::code(250, "2.0.0 Ok: queued as 4F2A").after(Duration::from_millis(200));
    assert_eq!(send_when(Phase::Dot, late).await, (true, accepted()));
}

#[tokio::test]
async fn replies_of_careless_relays_are_understood() {
    let cases: [(&[u8], u16, &str); 5] = [
        (b"250\r\n", 250, ""),
        (b"250 2.0.0 Ok\n", 250, "2.0.0 Ok"),
        (b"550 nie przyj\xEAto \0\r\n", 550, "nie przyj\u{FFFD}to \u{FFFD}"),
        (b"571-no\r\n571 really\r\n", 571, "no\nreally"),
        (b"250-\r\n250 ok\r\n", 250, "\nok"),
    ];
    for (raw, code, text) in cases {
        let (goes_on, outcome) = send_when(Phase::Dot, Reply::raw(raw)).await;
        let expected = match code {
            250 => Outcome::Accepted { reply: answer(code, text) },
            _ => refused_by(At::Dot, code, text, Fault::Content),
        };
        assert_eq!((goes_on, outcome), (true, expected));
    }
    let (_, outcome) = send_when(Phase::Dot, Reply::code(250, &"x".repeat(3000))).await;
    let Outcome::Accepted { reply } = outcome else { panic!("{outcome:?}") };
    assert!(reply.text.len() > 800 && reply.text.len() < 1000);
}

/// Long enough that no socket buffer takes it whole.
fn long() -> Vec<u8> {
    let mut bytes = simple(1);
    bytes.extend(std::iter::repeat_n(b"0123456789abcdef0123456789abcdef\r\n", 500_000).flatten());
    bytes
}

#[tokio::test]
async fn a_connection_lost_in_mid_body_is_unknown() {
    for (reply, phase) in [(Reply::close(), At::Body), (Reply::reset(), At::Body), (Reply::stall(), At::Body)] {
        let server = offering(&[]).await;
        server.once(Phase::Body, reply);
        let (session, outcome) = send(session(&server).await, "office@dluznik.example", &long()).await;
        assert!(session.is_none());
        assert!(matches!(&outcome, Outcome::Unknown { phase: at, .. } if *at == phase), "{outcome:?}");
        assert!(server.received().is_empty());
    }
}

#[tokio::test]
async fn a_refusal_in_mid_body_is_heard() {
    let server = offering(&[]).await;
    server.once(Phase::Body, Reply::code(552, "5.3.4 too big").then_close());
    let (session, outcome) = send(session(&server).await, "office@dluznik.example", &long()).await;
    assert!(session.is_none());
    assert_eq!(outcome, refused_by(At::Body, 552, "5.3.4 too big", Fault::Content));
}

#[tokio::test]
async fn a_relay_that_says_250_before_the_final_dot_is_not_believed() {
    let server = SmtpServer::start().await;
    server.once(Phase::Data, Reply::raw(b"354 go\r\n250 2.0.0 queued\r\n"));
    let (session, outcome) = send(session(&server).await, "office@dluznik.example", &simple(1)).await;
    assert!(session.is_none());
    assert_eq!(outcome, unknown(At::Body, "the relay spoke out of turn"));
}

#[tokio::test]
async fn a_relay_that_speaks_out_of_turn_is_left() {
    let server = SmtpServer::start().await;
    server.once(Phase::RcptTo, Reply::raw(b"250 Ok\r\n354 go\r\n"));
    let (session, outcome) = send(session(&server).await, "office@dluznik.example", &simple(1)).await;
    assert!(session.is_none());
    assert_eq!(outcome, silent(At::Data, "the relay spoke out of turn"));
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_last_check_that_says_no_takes_it_back() {
    let server = SmtpServer::start().await;
    let ready = envelope(session(&server).await, "office@dluznik.example", &simple(1)).await.unwrap();
    let session = ready.reset().await.unwrap();
    assert_eq!(send(session, "next@dluznik.example", &simple(2)).await.1, accepted());
    assert_eq!(server.received().len(), 1);
    assert_eq!(server.received()[0].to, ["next@dluznik.example"]);
}

#[tokio::test]
async fn what_is_dropped_hangs_up() {
    let server = SmtpServer::start().await;
    drop(envelope(session(&server).await, "office@dluznik.example", &simple(1)).await.unwrap());
    server.once(Phase::Dot, Reply::code(250, "late").after(Duration::from_millis(300)));
    let ready = envelope(session(&server).await, "office@dluznik.example", &simple(1)).await.unwrap();
    let bytes = simple(1);
    let cut = tokio::time::timeout(Duration::from_millis(100), ready.data(&bytes, || true)).await;
    assert!(cut.is_err());
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The relay has it, nobody here knows, and no later message can get its reply.
    assert_eq!(server.messages().len(), 1);
    assert_eq!(send(session(&server).await, "office@dluznik.example", &simple(2)).await.1, accepted());
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn bytes_that_could_be_read_as_two_messages_are_not_sent() {
    let server = SmtpServer::start().await;
    let mut bytes = simple(1);
    bytes.extend_from_slice(b"\n.\r\nMAIL FROM:<x@rossi.example>\r\n");
    let (session, outcome) = send(session(&server).await, "office@dluznik.example", &bytes).await;
    assert!(
        matches!(outcome, Outcome::Refused { phase: At::Data, reply: None, fault: Fault::Content, .. }),
        "{outcome:?}"
    );
    assert_eq!(send(session.unwrap(), "office@dluznik.example", &simple(2)).await.1, accepted());
    assert_eq!(server.commands().iter().filter(|line| *line == "DATA").count(), 1);
}

#[tokio::test]
async fn an_address_outside_ascii_needs_a_relay_that_takes_it() {
    let server = SmtpServer::start().await;
    let (session, outcome) = send(session(&server).await, "zażółć@dluznik.example", &simple(1)).await;
    let detail = "the address needs SMTPUTF8, which the relay does not offer".to_owned();
    let unfit = Outcome::Refused { phase: At::MailFrom, reply: None, detail, fault: Fault::Recipient };
    assert_eq!(outcome, unfit);
    assert!(!session.as_ref().unwrap().extensions().smtputf8);
    // A domain alone needs nothing: it is written in A-labels.
    let (_, outcome) = send(session.unwrap(), "office@dłużnik.example", &simple(2)).await;
    assert_eq!(outcome, accepted());

    let extensions = vec!["8BITMIME".into(), "SMTPUTF8".into()];
    let server = SmtpServer::with(Options { extensions, ..Options::default() }).await;
    let mut mail = mail();
    mail.to = mailbox("", "zażółć@dluznik.example");
    let bytes = build(&mail, &rendered()).unwrap();
    let (_, outcome) = send(self::session(&server).await, "zażółć@dluznik.example", &bytes).await;
    assert_eq!(outcome, accepted());
    assert_eq!(server.messages()[0].bytes, bytes);
    assert!(server.commands().contains(&"MAIL FROM:<crediti@rossi.example> BODY=8BITMIME SMTPUTF8".into()));
}

async fn offering(extensions: &[&str]) -> SmtpServer {
    let extensions = extensions.iter().map(|&line| line.into()).collect();
    SmtpServer::with(Options { extensions, ..Options::default() }).await
}

/// What is said of the envelope to a relay that offers that.
async fn envelope_said(extensions: &[&str], to: &str, notify_success: bool) -> [String; 2] {
    let server = offering(extensions).await;
    let settings = SmtpSettings { notify_success, ..settings(&server) };
    let session = Relay::new(settings).unwrap().connect().await.unwrap();
    assert_eq!(send(session, to, &simple(1)).await.1, accepted());
    let said = |verb: &str| server.commands().into_iter().find(|line| line.starts_with(verb)).unwrap();
    [said("MAIL"), said("RCPT")]
}

#[tokio::test]
async fn the_relay_is_told_only_what_it_offered_to_hear() {
    let (mail, rcpt) = ("MAIL FROM:<crediti@rossi.example>", "RCPT TO:<a+b=c@dluznik.example>");
    let size = simple(1).len();
    let envid = "ENVID=0190a1b2-0000-7000-8000-00000000000c";
    let orcpt = "ORCPT=rfc822;a+2Bb+3Dc@dluznik.example";
    let said = |extensions: &'static [&str], success| envelope_said(extensions, "a+b=c@dluznik.example", success);
    assert_eq!(said(&[], false).await, [mail, rcpt]);
    assert_eq!(said(&["SIZE", "8BITMIME", "SMTPUTF8"], false).await, [format!("{mail} SIZE={size}"), rcpt.into()]);
    assert_eq!(
        said(&["SIZE 5000", "DSN"], false).await,
        [format!("{mail} SIZE={size} RET=HDRS {envid}"), format!("{rcpt} NOTIFY=FAILURE,DELAY {orcpt}")]
    );
    assert_eq!(
        said(&["DSN"], true).await,
        [format!("{mail} RET=HDRS {envid}"), format!("{rcpt} NOTIFY=SUCCESS,FAILURE,DELAY {orcpt}")]
    );
    // A domain outside ASCII is written in A-labels, and needs nothing.
    let [_, rcpt] = envelope_said(&["DSN"], "office@dłużnik.example", false).await;
    assert_eq!(
        rcpt,
        "RCPT TO:<office@xn--dunik-k7a12b.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;office@xn--dunik-k7a12b.example"
    );
}

#[tokio::test]
async fn sender_and_recipient_go_together_where_the_relay_takes_that_and_the_message_waits() {
    let server = offering(&["PIPELINING", "8BITMIME"]).await;
    // Who waited for the first reply would wait for ever.
    server.on(Phase::MailFrom, Reply::raw(b""));
    server.on(Phase::RcptTo, Reply::raw(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"));
    let ready = envelope(session(&server).await, "office@dluznik.example", &simple(1)).await.unwrap();
    assert_eq!(server.commands().last().unwrap(), "RCPT TO:<office@dluznik.example>");
    server.on(Phase::Data, Reply::code(354, "go ahead"));
    assert_eq!(ready.data(&simple(1), || true).await.1, accepted());
    assert_eq!(server.messages()[0].bytes, simple(1));
}

#[tokio::test]
async fn a_refused_sender_ends_it_though_the_recipient_was_taken() {
    let server = offering(&["PIPELINING", "8BITMIME"]).await;
    server.once(Phase::MailFrom, Reply::code(451, "4.3.0 not now"));
    let (session, outcome) = send(session(&server).await, "office@dluznik.example", &simple(1)).await;
    assert_eq!(outcome, deferred(At::MailFrom, 451, "4.3.0 not now", Fault::Relay));
    let said: Vec<String> = server.commands().iter().map(|line| line[..4].to_owned()).collect();
    assert_eq!(said, ["EHLO", "MAIL", "RCPT", "RSET"]);
    assert_eq!(send(session.unwrap(), "office@dluznik.example", &simple(2)).await.1, accepted());
}

#[tokio::test]
async fn a_message_that_is_too_large_for_the_relay_is_refused_without_asking_it() {
    let size = simple(1).len();
    let server = offering(&[&format!("SIZE {}", size - 1)]).await;
    let (session, outcome) = send(session(&server).await, "office@dluznik.example", &simple(1)).await;
    let detail = format!("the message has {size} octets, and the relay takes at most {}", size - 1);
    assert_eq!(outcome, Outcome::Refused { phase: At::MailFrom, reply: None, detail, fault: Fault::Content });
    assert!(session.is_some());
    assert_eq!(server.commands(), ["EHLO dunning.rossi.example"]);
}

#[tokio::test]
async fn bytes_above_127_need_a_relay_that_takes_them() {
    let mut mail = mail();
    mail.to = mailbox("", "zażółć@dluznik.example");
    let bytes = build(&mail, &rendered()).unwrap();
    let server = offering(&["SMTPUTF8"]).await;
    let (_, outcome) = send(session(&server).await, "zażółć@dluznik.example", &bytes).await;
    let detail = "the message needs 8BITMIME, which the relay does not offer".to_owned();
    assert_eq!(outcome, Outcome::Refused { phase: At::MailFrom, reply: None, detail, fault: Fault::Content });
}

/// One message to a relay that answers the final dot after so many seconds, or never; ten minutes are its time.
async fn dot_after(seconds: Option<u64>, then: u64) -> Outcome {
    let server = SmtpServer::start().await;
    server.once(
        Phase::Dot,
        match seconds {
            Some(seconds) => Reply::code(250, "2.0.0 Ok: queued as 4F2A").after(Duration::from_secs(seconds)),
            None => Reply::stall(),
        },
    );
    let mut settings = settings(&server);
    settings.timeouts.dot = Timeouts::default().dot;
    let session = Relay::new(settings).unwrap().connect().await.unwrap();
    let bytes = simple(1);
    let ready = envelope(session, "office@dluznik.example", &bytes).await.unwrap();
    let time_passes = async {
        while server.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Past the moment in which the server has noted the message and not begun to wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(then)).await;
        tokio::time::resume();
    };
    tokio::join!(ready.data(&bytes, || true), time_passes).0.1
}

#[tokio::test]
async fn the_reply_to_the_final_dot_is_awaited_for_ten_minutes_and_not_a_second_longer() {
    assert_eq!(dot_after(Some(590), 595).await, accepted());
    assert_eq!(dot_after(None, 601).await, unknown(At::Dot, "no answer within 600 s"));
}

// --- getting there ---------------------------------------------------------------------------------------------------

async fn refused(settings: SmtpSettings) -> DeliveryError {
    let error = Relay::new(settings).unwrap().connect().await.unwrap_err();
    let outcome = Outcome::from(error.clone());
    assert!(matches!(outcome, Outcome::Deferred { fault: Fault::Relay | Fault::Login, .. }), "nothing was sent");
    error
}

#[tokio::test]
async fn a_relay_that_cannot_be_reached_or_does_not_greet_is_our_problem() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = SmtpServer::start().await;
    let error = refused(SmtpSettings { port, host: "127.0.0.1".into(), ..settings(&server) }).await;
    assert_eq!((error.phase, error.detail.as_str()), (At::Connect, "connection refused"));

    // No resolver is asked about a label of 64 letters.
    let error = refused(SmtpSettings { host: "x".repeat(64), ..settings(&server) }).await;
    assert_eq!((error.phase, error.detail.as_str()), (At::Connect, "the name of the relay is unknown"));

    server.once(Phase::Greeting, Reply::stall());
    let error = refused(settings(&server)).await;
    assert_eq!((error.phase, error.detail.as_str()), (At::Greeting, LATE));

    server.once(Phase::Greeting, Reply::code(554, "5.7.1 blocked <office@rossi.example>"));
    let error = refused(settings(&server)).await;
    assert_eq!((error.phase, error.reply.as_ref().unwrap().code), (At::Greeting, 554));
    assert_eq!(error.to_string(), "greeting: the relay answered 554");

    server.once(Phase::Ehlo, Reply::code(550, "5.7.1 your name?"));
    let error = refused(settings(&server)).await;
    assert_eq!((error.phase, error.reply), (At::Hello, Some(answer(550, "5.7.1 your name?"))));

    server.once(Phase::Ehlo, Reply::stall());
    let error = refused(settings(&server)).await;
    assert_eq!((error.phase, error.detail.as_str()), (At::Hello, LATE));

    // lettre takes any 3xx for a yes.
    server.once(Phase::Ehlo, Reply::code(354, "go"));
    let error = refused(settings(&server)).await;
    assert_eq!((error.phase, error.reply), (At::Hello, Some(answer(354, "go"))));
}

#[tokio::test]
async fn without_tls_no_other_machine_is_talked_to() {
    let server = SmtpServer::start().await;
    let elsewhere = SmtpSettings { host: "192.0.2.1".into(), ..settings(&server) };
    assert!(matches!(Relay::new(elsewhere), Err(SettingsError::PlainElsewhere(_))));
    // A name for 0.0.0.0, which would reach the server here, but is no loopback address.
    let error = refused(SmtpSettings { host: "0".into(), ..settings(&server) }).await;
    assert_eq!(error.phase, At::Connect);
    assert!(error.detail.contains("not this machine"), "{error}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_at_once() {
    let server = SmtpServer::start().await;
    let good = settings(&server);
    let bad = |change: fn(&mut SmtpSettings)| {
        let mut settings = good.clone();
        change(&mut settings);
        Relay::new(settings).unwrap_err()
    };
    assert!(matches!(bad(|s| s.host = String::new()), SettingsError::Host(_)));
    assert!(matches!(bad(|s| s.hello_name = "a\r\nb".into()), SettingsError::HelloName(_)));
    assert!(matches!(bad(|s| s.credentials = Some(login("", "x"))), SettingsError::Credentials));
    let no_ca = bad(|s| (s.security, s.ca_file) = (Security::StartTls, Some(PathBuf::from("Cargo.toml"))));
    assert!(matches!(no_ca, SettingsError::CaFile { .. }));
}

#[test]
fn a_stop_waits_longer_than_one_letter_takes_on_the_wire() {
    let unit = std::fs::read_to_string("deploy/dunningd.service").unwrap();
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s')).unwrap();
    let times = Timeouts::default();
    assert!(Duration::from_secs(stop.parse().unwrap()) >= times.envelope() + times.content() + times.reset);
    assert!(times.dot >= Duration::from_mins(10), "RFC 5321 §4.5.3.2.6");
}

fn login(username: &str, password: &str) -> Credentials {
    Credentials { username: username.into(), password: password.into() }
}

fn guarded() -> Options {
    Options {
        start_tls: true,
        mechanisms: vec!["PLAIN", "LOGIN"],
        login: Some(("rossi".into(), "geheim".into())),
        ..Options::default()
    }
}

fn encrypted(server: &SmtpServer) -> SmtpSettings {
    SmtpSettings {
        security: Security::StartTls,
        ca_file: Some(server.ca_file().to_owned()),
        credentials: Some(login("rossi", "geheim")),
        ..settings(server)
    }
}

#[tokio::test]
async fn tls_and_a_password_lead_to_a_session() {
    let implicit = Options { start_tls: false, implicit_tls: true, ..guarded() };
    let old = Options { mechanisms: vec!["LOGIN"], ..guarded() };
    let cases = [(guarded(), Security::StartTls), (implicit, Security::ImplicitTls), (old, Security::StartTls)];
    for (options, security) in cases {
        let server = SmtpServer::with(options).await;
        let relay = Relay::new(SmtpSettings { security, ..encrypted(&server) }).unwrap();
        let session = relay.connect().await.unwrap();
        assert_eq!(send(session, "office@dluznik.example", &simple(1)).await.1, accepted());
        let [message] = &server.messages()[..] else { panic!("one message") };
        assert_eq!((message.tls, message.user.as_deref()), (true, Some("rossi")));
        assert_eq!(message.bytes, simple(1));
    }
}

#[tokio::test]
async fn silence_after_the_final_dot_is_unknown_under_tls_too() {
    for (reply, detail) in [(Reply::stall(), LATE), (Reply::reset(), RESET)] {
        let server = SmtpServer::with(guarded()).await;
        server.once(Phase::Dot, reply);
        let session = Relay::new(encrypted(&server)).unwrap().connect().await.unwrap();
        let (session, outcome) = send(session, "office@dluznik.example", &simple(1)).await;
        assert!(session.is_none());
        assert_eq!(outcome, unknown(At::Dot, detail));
    }
}

fn no_password_was_sent(server: &SmtpServer) {
    assert!(!server.commands().iter().any(|line| line.starts_with("AUTH")), "{:?}", server.commands());
}

#[tokio::test]
async fn stripped_or_refused_starttls_fails_closed_and_no_password_is_sent() {
    let server = SmtpServer::with(guarded()).await;
    // Somebody in between took the offer away, and offers to take the password instead.
    server.once(Phase::Ehlo, Reply::lines(250, &["test", "AUTH PLAIN LOGIN"]));
    let error = refused(encrypted(&server)).await;
    assert_eq!((error.phase, error.detail.as_str()), (At::StartTls, "the relay offers no STARTTLS"));

    server.once(Phase::StartTls, Reply::code(454, "4.7.0 not now"));
    let error = refused(encrypted(&server)).await;
    assert_eq!((error.phase, error.reply), (At::StartTls, Some(answer(454, "4.7.0 not now"))));
    no_password_was_sent(&server);
}

#[tokio::test]
async fn a_broken_handshake_fails_closed_and_no_password_is_sent() {
    let broken = [Reply::raw(b"220 not TLS at all\r\n"), Reply::close(), Reply::reset(), Reply::stall()];
    for handshake in broken {
        let server = SmtpServer::with(guarded()).await;
        server.once(Phase::Handshake, handshake);
        let mut settings = encrypted(&server);
        settings.timeouts.start_tls = Duration::from_secs(1);
        assert_eq!(refused(settings).await.phase, At::StartTls);
        no_password_was_sent(&server);
    }
}

#[tokio::test]
async fn replies_injected_before_tls_are_not_believed_after_it() {
    let server = SmtpServer::with(guarded()).await;
    server.once(Phase::StartTls, Reply::raw(b"220 go ahead\r\n250-test\r\n250 AUTH PLAIN\r\n"));
    let error = refused(encrypted(&server)).await;
    assert_eq!((error.phase, error.detail.as_str()), (At::StartTls, "the relay spoke out of turn"));
    no_password_was_sent(&server);
}

#[tokio::test]
async fn a_certificate_must_come_from_whom_we_trust_and_bear_the_name() {
    let server = SmtpServer::with(guarded()).await;
    let other = SmtpServer::with(guarded()).await;
    for ca_file in [None, Some(other.ca_file().to_owned())] {
        let settings = SmtpSettings { ca_file, ..encrypted(&server) };
        match Relay::new(settings) {
            Ok(relay) => {
                let error = relay.connect().await.unwrap_err();
                assert_eq!(error.phase, At::StartTls);
                assert!(
                    error.detail.contains("certificate") && error.detail.contains("`ca_file` of [mail]"),
                    "{error}"
                );
            }
            Err(error) => assert!(matches!(error, SettingsError::NoRoots)),
        }
    }
    no_password_was_sent(&server);

    let server = SmtpServer::with(Options { certificate_expired: true, ..guarded() }).await;
    let error = refused(encrypted(&server)).await;
    assert_eq!(error.phase, At::StartTls);
    assert!(error.detail.contains("expired"), "{error}");
    no_password_was_sent(&server);

    let renamed = Options { certificate_name: "mail.elsewhere.example".into(), ..guarded() };
    let server = SmtpServer::with(renamed).await;
    let error = refused(encrypted(&server)).await;
    assert_eq!(error.phase, At::StartTls);
    assert!(error.detail.contains("not valid for name") && error.detail.contains("`host` of [mail]"), "{error}");
    no_password_was_sent(&server);

    // A port on which nobody speaks TLS before he is asked to.
    let server = SmtpServer::with(guarded()).await;
    let error = refused(SmtpSettings { security: Security::ImplicitTls, ..encrypted(&server) }).await;
    assert_eq!(error.phase, At::StartTls);
    assert!(error.detail.ends_with("does not speak TLS there: see `port` and `security` of [mail]"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_told_from_a_relay_that_cannot_check_it_now() {
    let server = SmtpServer::with(guarded()).await;
    let error = refused(SmtpSettings { credentials: Some(login("rossi", "falsch")), ..encrypted(&server) }).await;
    assert_eq!((error.phase, error.reply.as_ref().unwrap().code), (At::Auth, 535));
    assert!(error.credentials_refused());
    assert_eq!(error.to_string(), "auth: the relay answered 535");

    server.once(Phase::Auth, Reply::code(454, "4.7.0 not now"));
    let error = refused(encrypted(&server)).await;
    assert_eq!(error.reply.as_ref().unwrap().code, 454);
    assert!(!error.credentials_refused());

    server.once(Phase::Auth, Reply::stall());
    let error = refused(encrypted(&server)).await;
    assert_eq!((error.phase, error.detail.as_str()), (At::Auth, LATE));

    let mute = SmtpServer::with(Options { mechanisms: vec!["GSSAPI"], ..guarded() }).await;
    let error = refused(encrypted(&mute)).await;
    assert_eq!((error.phase, error.reply), (At::Auth, None));
    no_password_was_sent(&mute);
}

#[tokio::test]
async fn nothing_that_can_be_printed_holds_the_password_or_an_address() {
    let server = SmtpServer::with(guarded()).await;
    let relay = Relay::new(encrypted(&server)).unwrap();
    let session = relay.connect().await.unwrap();
    let printed = format!("{relay:?} {session:?}");
    let ready = envelope(session, "office@dluznik.example", &simple(1)).await.unwrap();
    let printed = format!("{printed} {ready:?}");
    for secret in ["geheim", "\"rossi\"", "dluznik"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

// --- files -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_file_is_written_once_and_never_replaced_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let files = FileTransport::new(folder.path().to_owned());
    let written = Outcome::Accepted { reply: answer(250, "file: n.1@rossi.example.eml") };
    assert_eq!(files.deliver("<n.1@rossi.example>", &simple(1)).await, written);
    assert_eq!(files.deliver("<n.1@rossi.example>", &simple(1)).await, written);
    let outcome = files.deliver("<n.1@rossi.example>", &simple(2)).await;
    assert!(matches!(outcome, Outcome::Deferred { phase: At::File, fault: Fault::Content, .. }), "{outcome:?}");
    assert_eq!(std::fs::read(folder.path().join("n.1@rossi.example.eml")).unwrap(), simple(1));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("n.1@rossi.example.eml"), 0o600, "whoever may look into the folder reads no letter");

    let made = FileTransport::new(folder.path().join("made/when/needed"));
    assert_eq!(made.deliver("<n.1@rossi.example>", &simple(1)).await, written);
    assert_eq!(mode("made"), 0o700, "letters are nobody else's to read");

    std::fs::write(folder.path().join("a file"), "").unwrap();
    let nowhere = FileTransport::new(folder.path().join("a file/within"));
    let outcome = nowhere.deliver("<n.1@rossi.example>", &simple(1)).await;
    assert!(matches!(outcome, Outcome::Deferred { phase: At::File, fault: Fault::Relay, .. }), "{outcome:?}");
}

// --- the relay's own log ----------------------------------------------------------------------------------------------

#[test]
fn what_the_relay_logged_about_a_message_is_found_by_its_message_id_as_postfix_and_exim_write_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("mail.log");
    let about = |text: &str| {
        fs::write(&log, text).unwrap();
        dunningd::deliver::relay_log(&log, "<n.7@seller.test>").unwrap()
    };
    let postfix = "Mar 10 10:00:00 mx postfix/cleanup[8]: 4F2A1: message-id=<n.7@seller.test>\n\
                   Mar 10 10:00:00 mx postfix/cleanup[8]: 4F2A2: message-id=<n.8@seller.test>\n\
                   Mar 10 10:00:01 mx postfix/smtp[9]: 4F2A2: to=<b@debtor.test>, status=sent\n\
                   Mar 10 10:00:02 mx postfix/smtp[9]: 4F2A1: to=<a@debtor.test>, status=bounced\n";
    let lines: Vec<&str> = postfix.lines().collect();
    assert_eq!(about(postfix), [lines[0], lines[3]]);
    let exim = "2026-03-10 10:00:00 1tzA1b-000001-2c <= us@seller.test H=localhost id=n.7@seller.test\n\
                2026-03-10 10:00:00 1tzA1b-000002-2c <= us@seller.test H=localhost id=n.8@seller.test\n\
                2026-03-10 10:00:01 1tzA1b-000001-2c => a@debtor.test R=dnslookup T=remote_smtp\n\
                2026-03-10 10:00:01 1tzA1b-000001-2c Completed\n";
    let lines: Vec<&str> = exim.lines().collect();
    assert_eq!(about(exim), [lines[0], lines[2], lines[3]]);
    assert_eq!(about("Mar 10 10:00:00 mx postfix/smtpd[7]: connect from localhost\n"), [""; 0]);
    // Of a message that is tried for days, the last lines.
    let tried: Vec<String> =
        (0..90).map(|n| format!("Mar 10 mx postfix/qmgr[1]: 4F2A1: <n.7@seller.test> try {n}")).collect();
    let kept = about(&tried.join("\n"));
    assert!(kept.len() == 40 && kept[39].ends_with("try 89"), "{kept:?}");
    assert!(dunningd::deliver::relay_log(folder.path(), "<n.7@seller.test>").is_err());
}
