//! The command line: one file per family of commands. The only place that prints.

mod agreements;
mod args;
mod connect;
mod explain;
mod failure;
mod ledger;
mod log;
mod outbox;
mod output;
mod preview;
mod register;
mod scan;
mod service;
mod setup;
mod simulate;
mod trial;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command, LedgerCommand, LogCommand, OutboxCommand, TemplateCommand};
use failure::{Exit, Failure};

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too, with code 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(Exit::USAGE.0);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::unexpected(format!("the runtime: {error}")))
        .and_then(|runtime| runtime.block_on(command(&cli)));
    match done {
        Ok(exit) => ExitCode::from(exit.0),
        Err(failure) => {
            failure.print(cli.json);
            ExitCode::from(failure.exit.0)
        }
    }
}

async fn command(cli: &Cli) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Demo(args) => trial::demo(cli, args).await,
        Command::Init { directory } => setup::init(directory),
        Command::Migrate => setup::migrate(cli).await,
        Command::Check => setup::check(cli),
        Command::Run => service::run(cli).await,
        Command::Reload => service::reload(),
        Command::Status => service::status(cli).await,
        Command::Scan(args) => scan::scan(cli, args).await,
        Command::Explain(args) => explain::explain(cli, args).await,
        Command::Simulate(args) => simulate::simulate(cli, args).await,
        Command::Preview(args) => preview::preview(cli, args).await,
        Command::Template { command: TemplateCommand::List } => preview::list(cli),
        Command::Template { command: TemplateCommand::Vars } => Ok(preview::vars()),
        Command::Hold(args) => register::hold(cli, args).await,
        Command::Release(args) => register::release(cli, args).await,
        Command::Dispute(args) => register::dispute(cli, args).await,
        Command::Handover(args) => register::handover(cli, args).await,
        Command::Promise(args) => register::promise(cli, args).await,
        Command::Plan(args) => agreements::plan(cli, args).await,
        Command::Cause(args) => agreements::cause(cli, args).await,
        Command::Contact(args) => agreements::contact(cli, args).await,
        Command::WriteOff(args) => agreements::write_off(cli, args).await,
        Command::Call(args) => register::call(cli, args).await,
        Command::Note(args) => register::note(cli, args).await,
        Command::Waive(args) => register::waive(cli, args).await,
        Command::Pause(args) => register::pause(cli, args).await,
        Command::Resume(args) => register::resume(cli, args).await,
        Command::Import { command: args::ImportCommand::Csv(args) } => ledger::import(cli, args).await,
        Command::Import { command: args::ImportCommand::Opening(args) } => agreements::opening(cli, args).await,
        Command::Ledger { command: LedgerCommand::Check } => ledger::check(cli).await,
        Command::Ledger { command: LedgerCommand::Contract } => Ok(ledger::contract(cli)),
        Command::Outbox { command: OutboxCommand::List } => outbox::list(cli).await,
        Command::Task { command: args::TaskCommand::List } => outbox::tasks(cli).await,
        Command::Outbox { command: OutboxCommand::Show { notice } } => outbox::show(cli, *notice).await,
        Command::Outbox { command: OutboxCommand::Resolve(args) } => outbox::resolve(cli, args).await,
        Command::Log { command: LogCommand::Show(args) } => log::show(cli, args).await,
        Command::Log { command: LogCommand::Export(args) } => log::export(cli, args).await,
        Command::Log { command: LogCommand::Verify(args) } => log::verify(cli, args).await,
        Command::Completions { shell } => Ok(setup::completions(*shell)),
        Command::Man => setup::man(),
    }
}
