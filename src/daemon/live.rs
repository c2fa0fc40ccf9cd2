//! The configuration in force: policy, creditors and templates, valid as a whole.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::{self, Config, Environment, Findings, Loaded, Mail, Recipients, Service};
use crate::deliver::{self, FileTransport, Relay, SmtpSettings, Transport};
use crate::model::Currency;
use crate::render::{TemplateFinding, TemplateSet};

/// A configuration with its templates. Whatever exists as one has passed every check.
pub struct Live {
    /// Its policy knows which templates exist.
    pub config: Config,
    pub templates: TemplateSet,
    /// Findings that stop nothing.
    pub warnings: Findings,
}

/// Why a configuration cannot be put in force. Everything found is in it.
#[derive(Debug)]
pub struct LoadError {
    pub config: Findings,
    pub templates: Vec<TemplateFinding>,
}

impl LoadError {
    /// Each finding, in several lines for a person.
    pub fn findings(&self) -> impl Iterator<Item = String> {
        let templates = self.templates.iter().map(|finding| format!("templates/{finding}"));
        self.config.iter().map(ToString::to_string).chain(templates)
    }
}

impl Live {
    /// Puts a configuration and its templates together.
    ///
    /// # Errors
    /// When an enabled stage lacks its letter in a language that the policy lists.
    pub fn new(loaded: Loaded, templates: TemplateSet) -> Result<Self, LoadError> {
        let Loaded { mut config, warnings } = loaded;
        let policy = &mut config.policy;
        let stages = policy.ladders.values().flat_map(|ladder| &ladder.stages).filter(|stage| stage.enabled);
        let wanted =
            stages.flat_map(|stage| policy.languages.iter().map(|language| (stage.template.as_str(), *language)));
        let missing = templates.missing(wanted);
        if !missing.is_empty() {
            return Err(LoadError { config: Findings::default(), templates: missing });
        }
        policy.templates = templates.catalog();
        Ok(Self { config, templates, warnings })
    }

    /// The letters of enabled stages that cannot be written in a currency that somebody is paid in, each with its reason.
    #[must_use]
    pub fn unwritable(&self) -> Vec<String> {
        let policy = &self.config.policy;
        let currencies: BTreeSet<Currency> =
            policy.creditors.values().flat_map(|creditor| creditor.bank_accounts.keys().copied()).collect();
        let stages = policy.ladders.values().flat_map(|ladder| &ladder.stages).filter(|stage| stage.enabled);
        let templates: BTreeSet<&str> = stages.map(|stage| stage.template.as_str()).collect();
        let mut found = Vec::new();
        for (template, language) in templates.iter().flat_map(|t| policy.languages.iter().map(move |l| (t, l))) {
            for currency in &currencies {
                if let Some(why) = self.templates.unwritable(template, *language, *currency) {
                    found.push(format!("no letter in {currency} could be written: templates/{why}"));
                }
            }
        }
        found
    }

    /// The same, to take the place of the running one.
    ///
    /// # Errors
    /// When only a restart can do that.
    pub fn in_place_of(self, running: &Self) -> Result<Self, LoadError> {
        match self.config.service.state.moved_from(&running.config.service.state) {
            None => Ok(self),
            Some(finding) => Err(LoadError { config: Findings(vec![finding]), templates: Vec::new() }),
        }
    }
}

/// Reads the folder of the configuration and its `templates`. `policy` is read instead of the folder's `policy.toml`.
///
/// # Errors
/// Every finding of configuration and templates at once.
pub fn load_live(
    directory: &Path,
    policy: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    credentials: Option<&Path>,
) -> Result<Live, LoadError> {
    let loaded = config::load_with_policy(directory, policy, env, credentials);
    // Where nothing is configured, that is all there is to say.
    let configured = directory.join("dunningd.toml").exists();
    let templates = if configured { TemplateSet::load(&directory.join("templates")) } else { TemplateSet::builtin() };
    match (loaded, templates) {
        (Ok(loaded), Ok(templates)) => Live::new(loaded, templates),
        (loaded, templates) => {
            Err(LoadError { config: loaded.err().unwrap_or_default(), templates: templates.err().unwrap_or_default() })
        }
    }
}

/// Where letters go, in words that leave no doubt.
#[must_use]
pub fn destination(service: &Service) -> String {
    let environment = match service.environment {
        Environment::Production => "production",
        Environment::Test => "test",
    };
    match &service.mail {
        Mail::File { directory } => {
            format!("{environment}: into files in {}; nobody receives them", directory.display())
        }
        Mail::Smtp(smtp) => {
            let whom = match &smtp.recipients {
                Recipients::Debtors => "to the debtors; they DO leave".to_owned(),
                Recipients::Domains(domains) if domains.is_empty() => {
                    "to nobody, as neither allow_domains nor redirect_to is set".to_owned()
                }
                Recipients::Domains(domains) => format!(
                    "to debtors of {} only; they DO leave",
                    domains.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
                ),
                Recipients::Redirect(to) => format!("all to {to}; no debtor receives them"),
            };
            format!("{environment}: by the relay {}:{} {whom}", smtp.host, smtp.port)
        }
    }
}

/// Why mail cannot be delivered with this configuration on this machine.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Secret(#[from] config::SecretError),
    #[error(transparent)]
    Settings(#[from] deliver::SettingsError),
}

/// The transport that the configuration names. Reads the password.
///
/// # Errors
/// When a secret or a certificate file cannot be read.
pub fn transport(mail: &Mail) -> Result<Transport, TransportError> {
    let smtp = match mail {
        Mail::File { directory } => return Ok(Transport::File(FileTransport::new(directory.clone()))),
        Mail::Smtp(smtp) => smtp,
    };
    let password = smtp.password.as_ref().map(config::Secret::read).transpose()?;
    let credentials =
        smtp.username.clone().zip(password).map(|(username, password)| deliver::Credentials { username, password });
    let settings = SmtpSettings {
        host: smtp.host.clone(),
        port: smtp.port,
        security: match smtp.security {
            config::Security::StartTls => deliver::Security::StartTls,
            config::Security::ImplicitTls => deliver::Security::ImplicitTls,
            config::Security::Plain => deliver::Security::Plain,
        },
        ca_file: smtp.ca_file.clone(),
        hello_name: smtp.hello_name.clone().unwrap_or_else(host_name),
        credentials,
        notify_success: smtp.notify_success,
        timeouts: smtp.timeouts,
    };
    Ok(Transport::Smtp(Box::new(Relay::new(settings)?)))
}

/// A relay on this machine does not care; one elsewhere wants a name, which `hello_name` gives.
pub(super) fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
