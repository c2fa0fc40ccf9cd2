//! `[mail]`: the way a letter leaves the house.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::findings::FindingCode;
use super::section::{Field, Section};
use super::service::{Environment, Holding, Secret, Surroundings, seconds};
use crate::model::{EmailAddress, Timeouts};

/// `[mail]`, by its `transport`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mail {
    /// `transport = "smtp"`
    Smtp(Box<Smtp>),
    /// `transport = "file"`: every letter becomes a file; nobody receives it.
    File {
        /// `directory`: the folder of the files, made when it does not exist. No default.
        directory: PathBuf,
    },
}

/// The relay that takes our letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smtp {
    /// `host`: name or address of the relay. No default.
    pub host: String,
    /// `port`. Default by `security`: 587 for `starttls`, 465 for `implicit_tls`, 25 for `plain`.
    pub port: u16,
    /// `security`. Default `"starttls"`.
    pub security: Security,
    /// `username`: with it, the daemon logs in and needs a password. Default: none.
    pub username: Option<String>,
    /// `password_file` or `password_credential`. Default: none.
    pub password: Option<Secret>,
    /// `ca_file`: certificates (PEM) trusted besides the system's. Default: none.
    pub ca_file: Option<PathBuf>,
    /// `hello_name`: what the daemon calls itself in EHLO. Default: the machine's name.
    pub hello_name: Option<String>,
    /// `connections`: letters on their way at once, 1 to 32. Default 2.
    pub connections: u32,
    /// `relay_log`: the relay's own log on this machine, read for what it says about a letter that a person has to
    /// resolve. Default: none.
    pub relay_log: Option<PathBuf>,
    /// `notify_success`: asks the relay for news also when a letter has reached its mailbox. Default no.
    pub notify_success: bool,
    /// `per_hour`: letters an hour over all, 1 to 1,000,000. Default: no limit.
    pub per_hour: Option<u32>,
    /// `per_domain_per_hour`: letters an hour to the addresses of one domain. Default: no limit.
    pub per_domain_per_hour: Option<u32>,
    /// `content_refusals`: after so many refusals in a row of one letter with one code it waits, 1 to 1,000. Default 5.
    pub content_refusals: u32,
    /// Whom letters may go to.
    pub recipients: Recipients,
    /// `[mail.timeouts]`
    pub timeouts: Timeouts,
}

/// Whom letters may go to through the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// In production: the debtors.
    Debtors,
    /// `allow_domains`: only debtors of these domains and of those below them, in A-labels and lower case. Outside
    /// production empty by default: nobody.
    Domains(BTreeSet<String>),
    /// `redirect_to`: everything goes to this mailbox of our own, and nothing counts as a contact.
    Redirect(EmailAddress),
}

impl Recipients {
    /// Whether a message may go to that address.
    #[must_use]
    pub fn allow(&self, recipient: &EmailAddress) -> bool {
        match self {
            Self::Debtors => true,
            Self::Domains(domains) => {
                let domain = recipient.domain().to_lowercase();
                domains.iter().any(|allowed| {
                    domain.strip_suffix(allowed.as_str()).is_some_and(|left| left.is_empty() || left.ends_with('.'))
                })
            }
            Self::Redirect(to) => to == recipient,
        }
    }
}

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// Begins in the open and must switch to TLS before anything else.
    StartTls,
    /// TLS from the first byte.
    ImplicitTls,
    /// No encryption: only to a relay on this very machine.
    Plain,
}

/// What was read, with what a lease must outlast.
pub(super) struct Read {
    pub(super) mail: Mail,
    pub(super) holding: Option<Holding>,
}

const SMTP_KEYS: [&str; 17] = [
    "host",
    "port",
    "security",
    "username",
    "password_file",
    "password_credential",
    "ca_file",
    "relay_log",
    "hello_name",
    "connections",
    "notify_success",
    "per_hour",
    "per_domain_per_hour",
    "content_refusals",
    "allow_domains",
    "redirect_to",
    "timeouts",
];

/// Reads `[mail]`; none when something without a default could not be read. An unknown environment is judged as
/// production.
pub(super) fn read(
    mut section: Section<'_>,
    around: Surroundings<'_>,
    environment: Option<Environment>,
) -> Option<Read> {
    let transport = section.need("transport", "\"smtp\"");
    let smtp = transport.as_ref().and_then(|field| field.choice(&[("smtp", true), ("file", false)]));
    let Some(smtp) = smtp else {
        // As long as nobody said which transport it is, the keys of both are known.
        SMTP_KEYS.into_iter().chain(["directory"]).for_each(|key| drop(section.get(key)));
        section.close();
        return None;
    };
    if smtp {
        return read_smtp(section, around, environment);
    }
    if let Some(field) = transport.filter(|_| environment == Some(Environment::Production)) {
        let message = "in production nobody receives letters that become files: set `transport = \"smtp\"`";
        field.note(FindingCode::Doubtful, message);
    }
    section.need("directory", "\"../var/mail\"");
    let directory = around.path(&mut section, "directory");
    section.close_with(&SMTP_KEYS, "it belongs to `transport = \"smtp\"`");
    Some(Read { mail: Mail::File { directory: directory? }, holding: None })
}

fn read_smtp(mut section: Section<'_>, around: Surroundings<'_>, environment: Option<Environment>) -> Option<Read> {
    let host_field = section.need("host", "\"relay.example.com\"");
    let host = host_field.as_ref().and_then(host);
    let words = [("starttls", Security::StartTls), ("implicit_tls", Security::ImplicitTls), ("plain", Security::Plain)];
    let security_field = section.get("security");
    let security = security_field.as_ref().and_then(|field| field.choice(&words)).unwrap_or(Security::StartTls);
    if let (Some(field), Some(host), Security::Plain) = (&security_field, &host, security)
        && !is_loopback(host)
    {
        let message = format!(
            "letters and passwords would cross the network unencrypted to {host}: use \"starttls\" or \
             \"implicit_tls\"; \"plain\" is only for a relay on this machine (localhost, 127.0.0.0/8, ::1)"
        );
        field.note(FindingCode::PlainOffLoopback, message);
    }
    let port = match security {
        Security::StartTls => 587,
        Security::ImplicitTls => 465,
        Security::Plain => 25,
    };
    let port = section.number("port", 1..=65535, port);
    let user_field = section.get("username");
    let username = user_field.as_ref().and_then(Field::text).map(str::to_owned);
    let password = around.secret(&mut section, "password_file", "password_credential");
    match (&user_field, &password) {
        (Some(field), None) => {
            let message = "with a username the daemon logs in: add `password_file` or `password_credential`";
            field.note(FindingCode::Conflict, message);
        }
        (None, Some(_)) => {
            let message = "a password without `username` is never used: add the username or remove the password";
            section.notes.add(FindingCode::Conflict, section.origin(), message);
        }
        _ => {}
    }
    let ca_file = around.path(&mut section, "ca_file");
    let relay_log = around.path(&mut section, "relay_log");
    let hello_name = section.text("hello_name");
    let connections = section.number("connections", 1..=32, 2);
    let notify_success = section.flag("notify_success", false);
    let mut limit = |key| section.get(key).and_then(|field| field.number::<u32>(1..=1_000_000));
    let (per_hour, per_domain_per_hour) = (limit("per_hour"), limit("per_domain_per_hour"));
    let content_refusals = section.number("content_refusals", 1..=1_000, 5);
    let recipients = recipients(&mut section, environment);
    let (timeouts, set_at) = match section.section("timeouts") {
        Some(timeouts) => read_timeouts(timeouts, environment),
        None => (Timeouts::default(), None),
    };
    section.close_with(&["directory"], "it belongs to `transport = \"file\"`");
    let smtp = Smtp {
        host: host?,
        port,
        security,
        username,
        password,
        ca_file,
        hello_name,
        relay_log,
        connections,
        notify_success,
        per_hour,
        per_domain_per_hour,
        content_refusals,
        recipients,
        timeouts,
    };
    let holding = Holding { timeouts, at: set_at };
    Some(Read { mail: Mail::Smtp(Box::new(smtp)), holding: Some(holding) })
}

/// Who may be written to: in production every debtor, elsewhere only whom the operator named.
fn recipients(section: &mut Section<'_>, environment: Option<Environment>) -> Recipients {
    let domains = section.get("allow_domains");
    let redirect = section.get("redirect_to");
    if environment == Some(Environment::Production) {
        for field in domains.iter().chain(&redirect) {
            let message =
                format!("`{}` belongs to a trial: in production letters go to the debtors; remove it", field.path);
            field.note(FindingCode::Conflict, message);
        }
        return Recipients::Debtors;
    }
    if let (Some(_), Some(field)) = (&domains, &redirect) {
        let message = format!("`{}`: with it nothing goes to a debtor; keep this key or `allow_domains`", field.path);
        field.note(FindingCode::Conflict, message);
    }
    if let Some(to) = redirect.and_then(|field| field.parsed(EmailAddress::parse)) {
        return Recipients::Redirect(to);
    }
    let listed = domains.and_then(|field| field.list()).unwrap_or_default();
    Recipients::Domains(listed.iter().filter_map(domain).collect())
}

fn domain(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let ascii = idna::domain_to_ascii_strict(text).ok().filter(|ascii| ascii.split('.').all(label));
    if ascii.is_none() {
        let message = format!("`{}` must be a domain alone, such as \"example.com\"", field.path);
        field.note(FindingCode::InvalidValue, message);
    }
    ascii
}

fn read_timeouts(
    mut section: Section<'_>,
    environment: Option<Environment>,
) -> (Timeouts, Option<super::tree::Origin>) {
    let usual = Timeouts::default();
    let set_at = section.get("rcpt_to").or(section.get("mail_from")).map(|field| field.origin().clone());
    let dot_least = if environment == Some(Environment::Test) { 1 } else { 600 };
    let mut read = |key, least: i64, default: Duration| {
        section.get(key).and_then(|field| field.number::<u32>(least..=3600)).map_or(default, seconds)
    };
    let timeouts = Timeouts {
        connect: read("connect", 1, usual.connect),
        greeting: read("greeting", 1, usual.greeting),
        hello: read("hello", 1, usual.hello),
        start_tls: read("start_tls", 1, usual.start_tls),
        auth: read("auth", 1, usual.auth),
        mail_from: read("mail_from", 1, usual.mail_from),
        rcpt_to: read("rcpt_to", 1, usual.rcpt_to),
        data: read("data", 1, usual.data),
        body: read("body", 1, usual.body),
        dot: read("dot", dot_least, usual.dot),
        reset: usual.reset,
    };
    section.close();
    (timeouts, set_at)
}

fn host(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c));
    let address = text.trim_start_matches('[').trim_end_matches(']');
    if !plain || (address.contains(':') && address.parse::<IpAddr>().is_err()) {
        let message = format!("`{}` must be a host name or an address alone; the port has its own key", field.path);
        field.note(FindingCode::InvalidValue, message);
        return None;
    }
    Some(address.to_owned())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
