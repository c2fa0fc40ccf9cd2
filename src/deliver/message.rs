//! The bytes of a message (RFC 5322, MIME), made once and then frozen.

use std::time::SystemTime;

use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment as LettreAttachment, Body, Mailbox as LettreMailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use memchr::memchr2;
use sha2::{Digest, Sha256};

use crate::model::{Attachment, Mail, Mailbox, Rendered, misleads, without_encoded_words};

/// Of a line without its CRLF: RFC 5322 §2.1.1.
const LINE_MAX: usize = 998;
const FILE_NAME_MAX: usize = 60;

/// Why a message was not built. Names the place, never what stands there: that is somebody's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("{0} holds a control character, a line break or a mark that reverses the direction of reading")]
    Hostile(&'static str),
    #[error("{0} holds `=?`, which mail programs decode (RFC 2047)")]
    EncodedWord(&'static str),
    #[error("{0} cannot be written in a header")]
    Address(&'static str),
    #[error("{0} is not a Message-ID: <left@right> in ASCII is wanted")]
    MessageId(&'static str),
    #[error("the date is out of range")]
    Date,
    #[error(
        "an attachment's file name is not 1 to {FILE_NAME_MAX} of a-z, A-Z, 0-9, `.`, `_` and `-`, or begins with a dot"
    )]
    FileName,
    #[error("an attachment's content type is not one")]
    ContentType,
    #[error("the content holds the boundary between its parts")]
    Boundary,
    #[error("a line of the message does not end in CRLF, or CR or LF stands alone")]
    LineEnd,
    #[error("a line of the message is longer than {LINE_MAX} octets")]
    LongLine,
    #[error("the message holds NUL")]
    Nul,
    #[error("a header is not ASCII, or the body is not")]
    NotAscii,
}

/// Makes the message: text first, then HTML where there is any, attachments last. Reads no clock and draws no lots: the
/// same input gives the same bytes, and the boundaries between parts follow from the Message-ID.
///
/// Headers are ASCII, encoded where needed (RFC 2047). The one exception is a recipient whose local part is not ASCII:
/// that can only be written as it is (RFC 6532), and the relay has to offer SMTPUTF8 for the recipient anyway.
///
/// # Errors
/// When a header's value could mislead its reader or break the message, and when the finished bytes are not fit for
/// every relay: see [`BuildError`].
pub fn build(mail: &Mail, rendered: &Rendered) -> Result<Vec<u8>, BuildError> {
    check_message_id(&mail.message_id, "the Message-ID")?;
    for reference in &mail.references {
        check_message_id(reference, "a reference")?;
    }
    if rendered.subject.trim().is_empty() {
        return Err(BuildError::Empty("the subject"));
    }
    if rendered.subject.chars().any(misleads) {
        return Err(BuildError::Hostile("the subject"));
    }
    if without_encoded_words(&rendered.subject) != rendered.subject {
        return Err(BuildError::EncodedWord("the subject"));
    }
    if mail.from.address.needs_smtputf8() || mail.reply_to.address.needs_smtputf8() {
        return Err(BuildError::Address("the sender"));
    }

    // lettre would put the present time in place of a Date that it cannot read back, so it is given one that it can
    // and the true one, with its offset, replaces it at the end.
    let seconds = u64::try_from(mail.date.timestamp()).map_err(|_| BuildError::Date)?;
    let date = mail.date.format("%a, %d %b %Y %H:%M:%S %z").to_string();
    if date.len() != "Thu, 01 Jan 1970 00:00:00 +0000".len() {
        return Err(BuildError::Date);
    }
    let mut builder = Message::builder()
        .raw_header(verbatim("Date", &date))
        .date(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
        .from(mailbox(&mail.from, "the sender")?)
        .reply_to(mailbox(&mail.reply_to, "the reply address")?)
        .to(mailbox(&mail.to, "the recipient")?)
        .subject(rendered.subject.clone())
        .raw_header(verbatim("Message-ID", &mail.message_id));
    if let Some(last) = mail.references.last() {
        builder = builder
            .raw_header(verbatim("In-Reply-To", last))
            .raw_header(verbatim("References", &mail.references.join("\r\n ")));
    }
    builder = builder
        // RFC 3834 §5: no automatic answer is wanted.
        .raw_header(verbatim("Auto-Submitted", "auto-generated"))
        .raw_header(verbatim("Content-Language", mail.language.code()));

    let boundary = Boundary::of(&mail.message_id);
    if boundary.is_in(&rendered.text) || boundary.is_in(&rendered.html) {
        return Err(BuildError::Boundary);
    }
    let text = SinglePart::plain(rendered.text.clone());
    let alternative = |text| {
        let both = MultiPart::alternative().boundary(boundary.name("alternative"));
        both.singlepart(text).singlepart(SinglePart::html(rendered.html.clone()))
    };
    let text_alone = rendered.html.is_empty();
    if text_alone && rendered.attachments.is_empty() {
        let message = builder.singlepart(text);
        return finish(message.map_err(|_| BuildError::Address("the recipient"))?, &date, mail);
    }
    let content = if rendered.attachments.is_empty() {
        alternative(text)
    } else {
        let mixed = MultiPart::mixed().boundary(boundary.name("mixed"));
        let mut mixed = if text_alone { mixed.singlepart(text) } else { mixed.multipart(alternative(text)) };
        for file in &rendered.attachments {
            mixed = mixed.singlepart(attachment(file)?);
        }
        mixed
    };
    let message = builder.multipart(content).map_err(|_| BuildError::Address("the recipient"))?;
    finish(message, &date, mail)
}

fn finish(mut message: Message, date: &str, mail: &Mail) -> Result<Vec<u8>, BuildError> {
    message.headers_mut().insert_raw(verbatim("Date", date));

    let bytes = message.formatted();
    verify(&bytes)?;
    if !bytes.is_ascii() && !mail.to.address.needs_smtputf8() {
        return Err(BuildError::NotAscii);
    }
    Ok(bytes)
}

/// Whether every relay reads the bytes as the same one message: each line ends in CRLF and is short enough, and no CR,
/// LF or NUL stands alone (RFC 5321 §2.3.8; a lone LF before a dot is how one message is smuggled into another).
///
/// # Errors
/// The first fault: [`BuildError::Nul`], [`BuildError::LineEnd`] or [`BuildError::LongLine`].
pub(super) fn verify(bytes: &[u8]) -> Result<(), BuildError> {
    if bytes.contains(&0) {
        return Err(BuildError::Nul);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = memchr2(b'\r', b'\n', rest).ok_or(BuildError::LineEnd)?;
        if end > LINE_MAX {
            return Err(BuildError::LongLine);
        }
        rest = rest[end..].strip_prefix(b"\r\n").ok_or(BuildError::LineEnd)?;
    }
    if bytes.is_empty() { Err(BuildError::LineEnd) } else { Ok(()) }
}

/// A header whose value is known to be ASCII and short: lettre would fold a long Message-ID away from its name, which
/// some mail programs do not read.
fn verbatim(name: &'static str, value: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str(name);
    HeaderValue::dangerous_new_pre_encoded(name, value.to_owned(), value.to_owned())
}

fn mailbox(mailbox: &Mailbox, place: &'static str) -> Result<LettreMailbox, BuildError> {
    let address: Address = mailbox.address.as_str().parse().map_err(|_| BuildError::Address(place))?;
    Ok(LettreMailbox::new(mailbox.name.as_ref().map(|name| name.as_str().to_owned()), address))
}

fn check_message_id(id: &str, place: &'static str) -> Result<(), BuildError> {
    let is_atoms = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c))
    };
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).filter(|id| id.len() <= 250);
    match inner.and_then(|inner| inner.split_once('@')) {
        Some((left, right)) if is_atoms(left) && is_atoms(right) => Ok(()),
        _ => Err(BuildError::MessageId(place)),
    }
}

fn attachment(file: &Attachment) -> Result<SinglePart, BuildError> {
    let name = &file.file_name;
    let fits = (1..=FILE_NAME_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !fits {
        return Err(BuildError::FileName);
    }
    if !file.content_type.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(BuildError::ContentType);
    }
    let content_type = ContentType::parse(&file.content_type).map_err(|_| BuildError::ContentType)?;
    // Always base64: a CSV with LF must arrive with LF.
    let body = Body::new_with_encoding(file.bytes.clone(), ContentTransferEncoding::Base64)
        .map_err(|_| BuildError::ContentType)?;
    Ok(LettreAttachment::new(name.clone()).body(body, content_type))
}

/// What separates the parts. `=_` occurs in neither quoted-printable nor base64 (RFC 2045 §6.7).
struct Boundary {
    mark: String,
}

impl Boundary {
    fn of(message_id: &str) -> Self {
        Self { mark: format!("=_{}", hex::encode(&Sha256::digest(message_id)[..12])) }
    }

    fn name(&self, part: &str) -> String {
        format!("{}_{part}", self.mark)
    }

    fn is_in(&self, text: &str) -> bool {
        text.contains(&self.mark)
    }
}

/// Subject and text part of a message, as its reader sees them; empty where it has none. What a person performs is no
/// mail: its title stands above its text.
#[must_use]
pub fn text_of(bytes: &[u8]) -> (String, String) {
    let mail = mail_parser::MessageParser::default().parse(bytes).filter(|message| message.from().is_some());
    let Some(message) = mail else {
        let text = String::from_utf8_lossy(bytes);
        let (title, text) = text.split_once("\n\n").unwrap_or(("", &text));
        return (title.to_owned(), text.to_owned());
    };
    let text = message.body_text(0).map(|text| text.replace("\r\n", "\n")).unwrap_or_default();
    (message.subject().unwrap_or_default().to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_to_post_and_a_mail_are_read_alike() {
        let read = |bytes: &str| text_of(bytes.as_bytes());
        let expected = ("Invoice: 7".to_owned(), "Dear Sir,\n\npay".to_owned());
        assert_eq!(read("Invoice: 7\n\nDear Sir,\n\npay"), expected);
        assert_eq!(read("From: a@b.example\r\nSubject: Invoice: 7\r\n\r\nDear Sir,\r\n\r\npay"), expected);
    }

    #[test]
    fn only_whole_lines_of_bounded_length_may_be_sent() {
        let line = |length: usize| format!("{}\r\n", "x".repeat(length)).into_bytes();
        let cases: [(&[u8], Result<(), BuildError>); 11] = [
            (b"a\r\n\r\n.\r\n", Ok(())),
            (b"", Err(BuildError::LineEnd)),
            (b"a", Err(BuildError::LineEnd)),
            (b"a\r\nb", Err(BuildError::LineEnd)),
            (b"a\n.\r\n", Err(BuildError::LineEnd)),
            (b"a\r.\r\n", Err(BuildError::LineEnd)),
            (b"a\r\r\n", Err(BuildError::LineEnd)),
            (b"a\n\r\n", Err(BuildError::LineEnd)),
            (b"a\0\r\n", Err(BuildError::Nul)),
            (&line(998), Ok(())),
            (&line(999), Err(BuildError::LongLine)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(verify(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
