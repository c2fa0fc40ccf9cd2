//! `preview` and `template`: letters without sending them.

use std::io::Write as _;

use crate::daemon;
use crate::model::{AccountId, Language, Letter, Rendered, Verdict};
use crate::render::{TemplateSet, reference};

use super::args::{Cli, PreviewArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::log::create;
use super::output::say;

pub(super) async fn preview(cli: &Cli, args: &PreviewArgs) -> Result<Exit, Failure> {
    let (letter, rendered) = match &args.account {
        Some(account) => of_account(cli, args, account).await?,
        None => of_fixture(cli, args)?,
    };
    if let Some(file) = &args.html {
        let mut written = create(file)?;
        written
            .write_all(rendered.html.as_bytes())
            .map_err(|error| Failure::unexpected(format!("{}: {error}", file.display())))?;
    }
    if cli.json {
        say!("{}", serde_json::json!({ "letter": letter, "rendered": rendered }));
    } else {
        say!("Subject: {}\n", rendered.subject);
        say!("{}", rendered.text.trim_end());
        for attachment in &rendered.attachments {
            say!("\n[attached: {} ({} bytes)]", attachment.file_name, attachment.bytes.len());
        }
        if let Some(file) = &args.html {
            say!("\n[HTML written to {}]", file.display());
        }
    }
    Ok(Exit::DONE)
}

/// The configured templates, or the built-in ones when there is no configuration.
fn templates(cli: &Cli) -> Result<TemplateSet, Failure> {
    if cli.config.join("dunningd.toml").is_file() {
        return Ok(connect::load(cli)?.templates);
    }
    TemplateSet::builtin()
        .map_err(|templates| daemon::LoadError { config: crate::config::Findings::default(), templates }.into())
}

fn of_fixture(cli: &Cli, args: &PreviewArgs) -> Result<(Letter, Rendered), Failure> {
    let templates = templates(cli)?;
    let template = args
        .template
        .as_deref()
        .ok_or_else(|| Failure::new(Exit::USAGE, "name a template, such as `friendly`, or an --account"))?;
    let language = match &args.lang {
        Some(tag) => Language::parse(tag).map_err(|error| Failure::new(Exit::USAGE, error.to_string()))?,
        None => Language::En,
    };
    if !templates.catalog().0.contains(&(template.to_owned(), language)) {
        let told =
            format!("there is no template {template} in {language}; `dunningd template list` names those that are");
        return Err(Failure::new(Exit::NO_SUCH_THING, told));
    }
    let fixture = args.fixture.as_deref().unwrap_or("one_item");
    let letter = templates.fixture(fixture, template, language).ok_or_else(|| {
        let known: Vec<&str> = templates.fixture_names().collect();
        Failure::new(
            Exit::NO_SUCH_THING,
            format!("there is no sample situation {fixture}; there are {}", known.join(", ")),
        )
    })?;
    let rendered = templates.render(&letter).map_err(|error| Failure::new(Exit::CONFIG, error.to_string()))?;
    Ok((letter, rendered))
}

/// The letter that this account would get.
async fn of_account(cli: &Cli, args: &PreviewArgs, account: &str) -> Result<(Letter, Rendered), Failure> {
    let shell = connect::shell(cli, None).await?;
    let account = AccountId::parse(account).map_err(|error| Failure::new(Exit::USAGE, error.to_string()))?;
    let (snapshot, decision) = daemon::look_at(&shell, &account, args.as_of).await?;
    let live = shell.live();
    let contacting = match &decision.verdict {
        Verdict::Contact(contacting) => contacting,
        Verdict::No { code, .. } => {
            return Err(Failure::new(
                Exit::REFUSED,
                format!(
                    "account {account} gets no letter on {}: {}: {} See `dunningd explain {account}`.",
                    decision.business_date,
                    code.as_str(),
                    code.meaning()
                ),
            ));
        }
    };
    let creditor = live.config.policy.creditors.get(&decision.creditor).ok_or_else(|| {
        Failure::new(Exit::NO_SUCH_THING, format!("there is no creditor {} in creditors.toml", decision.creditor))
    })?;
    let as_of = snapshot.freshness.map_or_else(|| shell.clock.now(), |freshness| freshness.payments_as_of);
    let letter = daemon::letter(&live.config.policy, creditor, &snapshot, &decision, contacting, as_of);
    let rendered = live.templates.render(&letter).map_err(|error| Failure::new(Exit::CONFIG, error.to_string()))?;
    Ok((letter, rendered))
}

pub(super) fn list(cli: &Cli) -> Result<Exit, Failure> {
    let templates = templates(cli)?;
    let catalog = templates.catalog();
    let mut by_template: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for (template, language) in &catalog.0 {
        by_template.entry(template).or_default().push(language.code());
    }
    let situations: Vec<&str> = templates.fixture_names().collect();
    if cli.json {
        say!("{}", serde_json::json!({ "templates": by_template, "situations": situations }));
    } else {
        for (template, languages) in by_template {
            say!("{template:<12} {}", languages.join(", "));
        }
        say!("sample situations: {}", situations.join(", "));
    }
    Ok(Exit::DONE)
}

pub(super) fn vars() -> Exit {
    say!("{}", reference());
    Exit::DONE
}
