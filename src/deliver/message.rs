//! The bytes of a message (RFC 5322, MIME), made once and then frozen.

use std::io::BufRead as _;

use lettre::Address;
use lettre::message::header::{
    ContentTransferEncoding, ContentType, From, HeaderName, HeaderValue, Headers, MIME_VERSION_1_0, ReplyTo, Subject,
    To,
};
use lettre::message::{
    Attachment as LettreAttachment, Body, Mailbox as LettreMailbox, Mailboxes, MultiPart, SinglePart,
};
use sha2::{Digest, Sha256};

use crate::model::{Attachment, Mail, Mailbox, Rendered};

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
    check_value(&rendered.subject, "the subject")?;
    if mail.from.address.needs_smtputf8() || mail.reply_to.address.needs_smtputf8() {
        return Err(BuildError::Address("the sender"));
    }

    if mail.date.timestamp() < 0 {
        return Err(BuildError::Date);
    }
    let date = mail.date.format("%a, %d %b %Y %H:%M:%S %z").to_string();
    if date.len() != "Thu, 01 Jan 1970 00:00:00 +0000".len() {
        return Err(BuildError::Date);
    }
    let boundary = Boundary::of(&mail.message_id);
    if boundary.is_in(&rendered.text) || boundary.is_in(&rendered.html) {
        return Err(BuildError::Boundary);
    }

    // lettre's own builder reads every address back from its header, with a grammar that takes longer than all the rest.
    let mut headers = Headers::new();
    headers.insert_raw(verbatim("Date", &date));
    headers.set(From::from(mailbox(&mail.from, "the sender")?));
    headers.set(ReplyTo::from(mailbox(&mail.reply_to, "the reply address")?));
    headers.set(To::from(mailbox(&mail.to, "the recipient")?));
    headers.set(Subject::from(rendered.subject.clone()));
    headers.insert_raw(verbatim("Message-ID", &mail.message_id));
    if let Some(last) = mail.references.last() {
        headers.insert_raw(verbatim("In-Reply-To", last));
        headers.insert_raw(verbatim("References", &mail.references.join("\r\n ")));
    }
    // RFC 3834 §5: no automatic answer is wanted.
    headers.insert_raw(verbatim("Auto-Submitted", "auto-generated"));
    headers.insert_raw(verbatim("Content-Language", mail.language.code()));
    headers.set(MIME_VERSION_1_0);

    let mut bytes = headers.to_string().into_bytes();
    bytes.extend(content(rendered, &boundary)?);
    verify(&bytes)?;
    if !bytes.is_ascii() && !mail.to.address.needs_smtputf8() {
        return Err(BuildError::NotAscii);
    }
    Ok(bytes)
}

/// What follows the headers of the message: those of its content, and that.
fn content(rendered: &Rendered, boundary: &Boundary) -> Result<Vec<u8>, BuildError> {
    let text = SinglePart::plain(encoded(&rendered.text));
    if rendered.html.is_empty() && rendered.attachments.is_empty() {
        return Ok(text.formatted());
    }
    let alternative = |text| {
        let both = MultiPart::builder().header(boundary.content_type("alternative")?).build();
        Ok(both.singlepart(text).singlepart(SinglePart::html(encoded(&rendered.html))))
    };
    if rendered.attachments.is_empty() {
        return Ok(alternative(text)?.formatted());
    }
    let mixed = MultiPart::builder().header(boundary.content_type("mixed")?).build();
    let mut mixed = if rendered.html.is_empty() { mixed.singlepart(text) } else { mixed.multipart(alternative(text)?) };
    for file in &rendered.attachments {
        mixed = mixed.singlepart(attachment(file)?);
    }
    Ok(mixed.formatted())
}

/// Longer lines of a text are not sent as they are: RFC 5322 §2.1.1 wants at most 78.
const PLAIN_LINE_MAX: usize = 75;
/// Of a line of quoted-printable, its `=` included: RFC 2045 §6.7.
const ENCODED_LINE_MAX: usize = 76;

/// A text as its part holds it: as it is where every relay takes that, else in the shorter of the two encodings. The
/// same bytes as lettre makes, which moves the rest of the text for each of its lines.
fn encoded(text: &str) -> Body {
    let lines_fit = || text.split('\n').all(|line| line.len() <= PLAIN_LINE_MAX);
    if text.is_ascii() && lines_fit() {
        return Body::dangerous_pre_encoded(with_crlf(text).into_bytes(), ContentTransferEncoding::SevenBit);
    }
    let escaped = text.bytes().filter(|byte| !matches!(byte, b'\t' | b' '..=b'~')).count();
    if escaped <= text.len() / 3 {
        return Body::dangerous_pre_encoded(quoted_printable(text), ContentTransferEncoding::QuotedPrintable);
    }
    Body::new_with_encoding(with_crlf(text).into_bytes(), ContentTransferEncoding::Base64)
        .unwrap_or_else(|bytes| Body::dangerous_pre_encoded(bytes, ContentTransferEncoding::Binary))
}

fn with_crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some(line) => {
                out.push_str(line.strip_suffix('\r').unwrap_or(line));
                out.push_str("\r\n");
            }
            None => out.push_str(line),
        }
    }
    out
}

/// RFC 2045 §6.7, with CRLF at the end of each line. A soft break stands as late as it may.
fn quoted_printable(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some(line) => {
                encode_line(line.strip_suffix('\r').unwrap_or(line).as_bytes(), &mut out);
                out.extend(b"\r\n");
            }
            None => encode_line(line.as_bytes(), &mut out),
        }
    }
    out
}

fn encode_line(line: &[u8], out: &mut Vec<u8>) {
    let mut column = 0;
    let mut rest = line;
    // The last character of a line may stand where others leave room for the `=` of a soft break.
    while let [first, .., _] = rest {
        let room = ENCODED_LINE_MAX - 1 - column;
        let most = room.min(rest.len() - 1);
        let plain = rest.iter().take(most).take_while(|byte| is_plain(**byte)).count();
        if plain > 0 {
            let (run, after) = rest.split_at(plain);
            out.extend_from_slice(run);
            column += plain;
            rest = after;
        } else if room == 0 || room < 3 && !is_plain(*first) {
            out.extend(b"=\r\n");
            column = 0;
        } else {
            out.extend(escaped(*first));
            column += 3;
            rest = &rest[1..];
        }
    }
    if let [last] = rest {
        let is_blank = matches!(last, b' ' | b'\t');
        let width = if is_plain(*last) && !is_blank { 1 } else { 3 };
        if column + width > ENCODED_LINE_MAX {
            out.extend(b"=\r\n");
        }
        if width == 1 {
            out.push(*last);
        } else {
            out.extend(escaped(*last));
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~') && byte != b'='
}

fn escaped(byte: u8) -> [u8; 3] {
    [b'=', hex_digit(byte >> 4), hex_digit(byte & 0x0F)]
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + (nibble - 10) }
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
        let mut after = rest;
        // Faster than looking at each byte; reading from memory cannot fail.
        let length = after.skip_until(b'\n').unwrap_or_default();
        let line = rest[..length].strip_suffix(b"\r\n").ok_or(BuildError::LineEnd)?;
        if line.len() > LINE_MAX {
            return Err(BuildError::LongLine);
        }
        if line.contains(&b'\r') {
            return Err(BuildError::LineEnd);
        }
        rest = after;
    }
    if bytes.is_empty() { Err(BuildError::LineEnd) } else { Ok(()) }
}

/// A header whose value is known to be ASCII and short: lettre would fold a long Message-ID away from its name, which
/// some mail programs do not read.
fn verbatim(name: &'static str, value: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str(name);
    HeaderValue::dangerous_new_pre_encoded(name, value.to_owned(), value.to_owned())
}

fn mailbox(mailbox: &Mailbox, place: &'static str) -> Result<Mailboxes, BuildError> {
    let name = match mailbox.name.as_deref().map(str::trim) {
        None | Some("") => None,
        Some(name) => {
            check_value(name, place)?;
            Some(name.to_owned())
        }
    };
    let address: Address = mailbox.address.as_str().parse().map_err(|_| BuildError::Address(place))?;
    Ok(LettreMailbox::new(name, address).into())
}

/// Nothing in a header may act on whoever reads it.
fn check_value(value: &str, place: &'static str) -> Result<(), BuildError> {
    let is_hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    if value.chars().any(is_hostile) {
        return Err(BuildError::Hostile(place));
    }
    if value.contains("=?") {
        return Err(BuildError::EncodedWord(place));
    }
    Ok(())
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

    /// Of a part with parts of that kind.
    fn content_type(&self, kind: &str) -> Result<ContentType, BuildError> {
        let named = format!("multipart/{kind}; boundary=\"{}_{kind}\"", self.mark);
        ContentType::parse(&named).map_err(|_| BuildError::ContentType)
    }

    fn is_in(&self, text: &str) -> bool {
        text.contains(&self.mark)
    }
}

/// Subject and text part of a message, as its reader sees them; empty where it has none.
#[must_use]
pub fn text_of(bytes: &[u8]) -> (String, String) {
    let Some(message) = mail_parser::MessageParser::default().parse(bytes) else { return Default::default() };
    let text = message.body_text(0).map(|text| text.replace("\r\n", "\n")).unwrap_or_default();
    (message.subject().unwrap_or_default().to_owned(), text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quoted_printable_is_what_lettre_makes_of_it(text in "([ -~\t]{0,90}|[ =a\r\n\u{e9}\u{44f}]{0,9}){0,9}") {
            let theirs = Body::new_with_encoding(text.clone(), ContentTransferEncoding::QuotedPrintable);
            prop_assert_eq!(quoted_printable(&text), theirs.unwrap().into_vec());
        }
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
