//! What the relay can do besides plain SMTP, from its reply to EHLO, and the parameters that follow from it.

use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::extension::{MailBodyParameter, MailParameter, RcptParameter};

use super::smtp::Envelope;
use crate::model::Reply;

/// What the relay offered last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is offered or not, independently of the others")]
pub struct Extensions {
    /// RFC 3207.
    pub start_tls: bool,
    /// RFC 1870: takes the size beforehand.
    pub size: bool,
    /// The most octets it takes, if it named a limit.
    pub size_limit: Option<usize>,
    /// RFC 3461: says what became of a message.
    pub dsn: bool,
    /// RFC 6531: takes addresses with a non-ASCII local part.
    pub smtputf8: bool,
    /// RFC 6152: takes bytes above 127.
    pub eight_bit_mime: bool,
    /// RFC 2920: takes sender and recipient at once.
    pub pipelining: bool,
    /// RFC 2034. Its codes are read wherever they stand, also from relays that do not announce them.
    pub enhanced_status_codes: bool,
    /// The better of the mechanisms that we know.
    pub(super) mechanism: Option<Mechanism>,
}

impl Extensions {
    pub(super) fn read(hello: &Reply) -> Self {
        let mut offered = Self::default();
        for line in hello.text.lines().skip(1) {
            let line = line.to_ascii_uppercase();
            // Some relays still write the `AUTH=` of the drafts before RFC 2554.
            let mut words = line.split([' ', '=']);
            match words.next() {
                Some("STARTTLS") => offered.start_tls = true,
                Some("SIZE") => {
                    offered.size = true;
                    // 0: no limit is known (RFC 1870 §3).
                    offered.size_limit = words.next().and_then(|limit| limit.parse().ok()).filter(|&limit| limit > 0);
                }
                Some("DSN") => offered.dsn = true,
                Some("SMTPUTF8") => offered.smtputf8 = true,
                Some("8BITMIME") => offered.eight_bit_mime = true,
                Some("PIPELINING") => offered.pipelining = true,
                Some("ENHANCEDSTATUSCODES") => offered.enhanced_status_codes = true,
                Some("AUTH") => {
                    for word in words {
                        match word {
                            "PLAIN" => offered.mechanism = Some(Mechanism::Plain),
                            "LOGIN" => offered.mechanism = offered.mechanism.or(Some(Mechanism::Login)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        offered
    }

    /// What goes with MAIL. SMTPUTF8 and 8BITMIME only where the message needs them.
    pub(super) fn mail_parameters(&self, envelope: &Envelope<'_>) -> Vec<MailParameter> {
        let mut parameters = Vec::new();
        if self.size {
            parameters.push(MailParameter::Size(envelope.bytes.len()));
        }
        if !envelope.bytes.is_ascii() {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        if envelope.needs_smtputf8() {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if self.dsn {
            let other = |keyword: &str, value: &str| MailParameter::Other {
                keyword: keyword.to_owned(),
                value: Some(value.to_owned()),
            };
            parameters.push(other("RET", "HDRS"));
            parameters.push(other("ENVID", envelope.id));
        }
        parameters
    }

    /// What goes with RCPT: which news we want, and of whom. lettre writes the values as xtext (RFC 3461 §4).
    pub(super) fn rcpt_parameters(&self, envelope: &Envelope<'_>, notify_success: bool) -> Vec<RcptParameter> {
        if !self.dsn {
            return Vec::new();
        }
        let other =
            |keyword: &str, value: String| RcptParameter::Other { keyword: keyword.to_owned(), value: Some(value) };
        let news = if notify_success { "SUCCESS,FAILURE,DELAY" } else { "FAILURE,DELAY" };
        let mut parameters = vec![other("NOTIFY", news.to_owned())];
        // `rfc822` addresses are ASCII (RFC 6533 §3).
        if envelope.to.as_str().is_ascii() {
            parameters.push(other("ORCPT", format!("rfc822;{}", envelope.to.as_str())));
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_read_and_nothing_else_is_assumed() {
        let read = |lines: &str| Extensions::read(&Reply { code: 250, text: format!("STARTTLS.example\n{lines}") });
        assert_eq!(read(""), Extensions::default());
        let all = read("PIPELINING\nsize 10240000\n8BITMIME\nDSN\nENHANCEDSTATUSCODES\nSMTPUTF8\nSTARTTLS\nAUTH=LOGIN");
        let expected = Extensions {
            start_tls: true,
            size: true,
            size_limit: Some(10_240_000),
            dsn: true,
            smtputf8: true,
            eight_bit_mime: true,
            pipelining: true,
            enhanced_status_codes: true,
            mechanism: Some(Mechanism::Login),
        };
        assert_eq!(all, expected);
        for unlimited in ["SIZE", "SIZE 0", "SIZE much"] {
            assert_eq!(read(unlimited), Extensions { size: true, ..Extensions::default() }, "{unlimited}");
        }
    }
}
