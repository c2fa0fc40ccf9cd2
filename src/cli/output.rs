//! What a command says. Whoever stops reading, as `head` does, ends the command in peace.

use std::fmt::Arguments;
use std::io::{self, Write as _};

use crate::model::printable;

/// What ledger, relay and people wrote must not steer the terminal. Progress bars draw themselves.
fn shown(text: Arguments<'_>) -> String {
    printable(text.to_string().chars(), &['\n', '\t'])
}

/// Writes; ends the process with code 0 when nobody reads any more.
pub(super) fn write(text: Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(shown(text).as_bytes())
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}

/// A line on stderr, for what a command could not do.
pub(super) fn complain(text: Arguments<'_>) {
    // Nobody can be told that nobody listens.
    drop(writeln!(io::stderr(), "dunningd: {}", shown(text)));
}

/// A line on stdout.
macro_rules! say {
    () => { $crate::cli::output::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::output::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// A text on stdout that brings its own line ends.
macro_rules! say_part {
    ($($text:tt)*) => { $crate::cli::output::write(format_args!($($text)*)) };
}

pub(super) use {say, say_part};
