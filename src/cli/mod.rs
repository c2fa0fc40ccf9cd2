//! The command line: one file per family of commands. The only place that prints.

mod agreements;
mod args;
mod connect;
mod evidence;
mod explain;
mod failure;
mod ledger;
mod log;
mod outbox;
mod output;
mod preview;
mod register;
mod release;
mod scan;
mod service;
mod setup;
mod simulate;
mod task;
mod trial;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command, LedgerCommand, LogCommand, OutboxCommand, TaskCommand, TemplateCommand};
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
        Command::Run(args) => service::run(cli, args).await,
        Command::Reload => service::reload(cli),
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
        Command::Restore(args) => register::restore(cli, args).await,
        Command::Call(args) => register::call(cli, args).await,
        Command::Note(args) => register::note(cli, args).await,
        Command::Waive(args) => register::waive(cli, args).await,
        Command::Ladder(args) => register::ladder(cli, args).await,
        Command::Pause(args) => register::pause(cli, args).await,
        Command::Resume(args) => register::resume(cli, args).await,
        Command::Mode(args) => release::mode(cli, args).await,
        Command::Adopt(args) => release::adopt(cli, args).await,
        Command::Import { command: args::ImportCommand::Csv(args) } => ledger::import(cli, args).await,
        Command::Import { command: args::ImportCommand::Opening(args) } => agreements::opening(cli, args).await,
        Command::Ledger { command: LedgerCommand::Check } => ledger::check(cli).await,
        Command::Ledger { command: LedgerCommand::Contract } => Ok(ledger::contract(cli)),
        Command::Outbox { command: OutboxCommand::List } => outbox::list(cli).await,
        Command::Task { command: TaskCommand::List(args) } => task::list(cli, args).await,
        Command::Task { command: TaskCommand::Show(args) } => task::show(cli, args).await,
        Command::Task { command: TaskCommand::Done(args) } => task::done(cli, args).await,
        Command::Task { command: TaskCommand::Drop(args) } => task::drop_task(cli, args).await,
        Command::Outbox { command: OutboxCommand::Show { notice } } => outbox::show(cli, *notice).await,
        Command::Outbox { command: OutboxCommand::Approve(args) } => release::approve(cli, args).await,
        Command::Outbox { command: OutboxCommand::Drop(args) } => release::drop_waiting(cli, args).await,
        Command::Outbox { command: OutboxCommand::Resolve(args) } => outbox::resolve(cli, args).await,
        Command::Log { command: LogCommand::Show(args) } => log::show(cli, args).await,
        Command::Log { command: LogCommand::Export(args) } => log::export(cli, args).await,
        Command::Log { command: LogCommand::Verify(args) } => log::verify(cli, args).await,
        Command::Log { command: LogCommand::Keygen(args) } => evidence::keygen(cli, args),
        Command::Log { command: LogCommand::Anchor(args) } => evidence::anchor(cli, args).await,
        Command::Log { command: LogCommand::Prove(args) } => evidence::prove(cli, args).await,
        Command::Dossier(args) => evidence::dossier(cli, args).await,
        Command::Erase(args) => evidence::erase(cli, args).await,
        Command::LegalHold(args) => evidence::legal_hold(cli, args).await,
        Command::Completions { shell } => Ok(setup::completions(*shell)),
        Command::Man => setup::man(),
    }
}
