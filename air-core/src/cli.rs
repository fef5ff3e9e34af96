//! [`main_with`]: what the `main` of every AIR binary is made of.
//!
//! Results go to stdout, everything else to stderr; the exit code is 0 when it worked, 1 when it failed and 2
//! when the command line was wrong. An error is one line, `error: …`, followed by the chain of its causes.
//!
//! ```no_run
//! use air_core::cli::{self, CliError};
//!
//! #[derive(clap::Parser)]
//! struct Args { file: String }
//!
//! fn run(args: Vec<std::ffi::OsString>) -> Result<(), CliError> {
//!     let args: Args = cli::parse(args)?;
//!     let text = std::fs::read_to_string(&args.file)?;
//!     air_core::outln!("{} bytes", text.len())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     cli::main_with(run)
//! }
//! ```

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::BoxError;

/// The most causes of one error that are printed: a chain may be endless.
const MAX_CAUSES: usize = 32;

/// How a command line program ends when it does not end well.
///
/// Any error converts into it with `?`: clap's into [`Usage`](Self::Usage) or [`Help`](Self::Help), all others
/// into [`Failed`](Self::Failed). It is deliberately not an [`Error`] itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum CliError {
    /// The command line is wrong: the message, without `error: ` (exit code 2).
    Usage(String),
    /// The work failed (exit code 1).
    Failed(BoxError),
    /// The user asked for help or the version: the text for stdout (exit code 0).
    Help(String),
    /// Whoever read stdout closed it, as `head` does: nothing more to say (exit code 0).
    OutputClosed,
}

impl CliError {
    /// A wrong command line.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }

    /// Failed work, from an error or a plain text.
    pub fn failed(error: impl Into<BoxError>) -> Self {
        Self::Failed(error.into())
    }

    fn from_output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Failed(Box::new(Context { text: "cannot write to stdout", source: error }))
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::Help(_) | Self::OutputClosed => 0,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        match (Box::new(error) as BoxError).downcast::<clap::Error>() {
            Ok(error) => from_clap(&error),
            Err(error) => Self::Failed(error),
        }
    }
}

fn from_clap(error: &clap::Error) -> CliError {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return CliError::Help(text);
    }
    CliError::Usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned())
}

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Context {
    text: &'static str,
    source: io::Error,
}

/// Reads the command line (the program's name first) into `T`.
pub fn parse<T: clap::Parser>(args: Vec<OsString>) -> Result<T, CliError> {
    Ok(T::try_parse_from(args)?)
}

/// Runs `program` on the process's command line, prints what went wrong, and gives the exit code.
pub fn main_with(program: impl FnOnce(Vec<OsString>) -> Result<(), CliError>) -> ExitCode {
    let result = program(std::env::args_os().collect());
    ExitCode::from(finish(result, &mut io::stdout(), &mut io::stderr()))
}

/// Prints the end of a program to the two streams; returns the exit code. A stream that is closed is no failure.
fn finish(result: Result<(), CliError>, out: &mut impl Write, err: &mut impl Write) -> u8 {
    // What was printed through a buffer may only fail now.
    let result = result.and_then(|()| out.flush().map_err(CliError::from_output));
    let Err(error) = result else { return 0 };
    let _ = match &error {
        CliError::Help(text) => write!(out, "{text}").and_then(|()| out.flush()),
        CliError::Usage(message) => writeln!(err, "error: {message}"),
        CliError::Failed(error) => writeln!(err, "error: {}", Chain(error.as_ref())),
        CliError::OutputClosed => Ok(()),
    };
    error.exit_code()
}

/// Writes one line to stdout; [`outln!`](crate::outln) calls it. Unlike `println!` it never panics: a closed
/// stdout is [`CliError::OutputClosed`].
pub fn write_line(line: fmt::Arguments<'_>) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_fmt(line).and_then(|()| out.write_all(b"\n")).map_err(CliError::from_output)
}

/// Prints one line to stdout, as `println!` does, and returns `Result<(), CliError>` instead of panicking when
/// stdout is closed.
#[macro_export]
macro_rules! outln {
    ($($line:tt)*) => { $crate::cli::write_line(::std::format_args!($($line)*)) };
}

/// An error and its causes, one a line:
///
/// ```text
/// cannot read `a.csv`
///   caused by: no such file
/// ```
///
/// A cause whose text its parent has repeated already is left out.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        write!(f, "{said}")?;
        for cause in std::iter::successors(self.0.source(), |error| (*error).source()).take(MAX_CAUSES) {
            let text = cause.to_string();
            if !said.contains(&text) {
                write!(f, "\n  caused by: {text}")?;
                said = text;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(clap::Parser, Debug)]
    #[command(name = "demo", version = "1.2.3")]
    struct Args {
        #[arg(long)]
        count: u32,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: String,
        source: Option<BoxError>,
    }

    fn layer(text: &str, source: Option<BoxError>) -> BoxError {
        Box::new(Layer { text: text.into(), source })
    }

    /// A stream whose reader has gone.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    fn end(result: Result<(), CliError>) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = finish(result, &mut out, &mut err);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn run(args: &[&str]) -> Result<(), CliError> {
        let args: Args = parse(args.iter().map(OsString::from).collect())?;
        if args.count == 0 { Err(CliError::usage("--count must be positive")) } else { Ok(()) }
    }

    #[test]
    fn success_is_silent() {
        assert_eq!(end(run(&["demo", "--count", "1"])), (0, String::new(), String::new()));
    }

    #[test]
    fn a_wrong_command_line_is_code_2() {
        let (code, out, err) = end(run(&["demo", "--count", "x"]));
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with("error: invalid value 'x' for '--count <COUNT>'"), "{err}");

        let (code, _, err) = end(run(&["demo", "--count", "0"]));
        assert_eq!((code, err.as_str()), (2, "error: --count must be positive\n"));
    }

    #[test]
    fn help_and_version_go_to_stdout() {
        let (code, out, err) = end(run(&["demo", "--help"]));
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("Usage: demo"), "{out}");
        assert_eq!(end(run(&["demo", "--version"])).1, "demo 1.2.3\n");
    }

    #[test]
    fn a_failure_prints_its_causes_once_each() {
        let root = layer("no such file", None);
        let middle = layer("cannot open it: no such file", Some(root));
        let (code, out, err) = end(Err(CliError::Failed(layer("cannot read `a.csv`", Some(middle)))));
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(err, "error: cannot read `a.csv`\n  caused by: cannot open it: no such file\n");
    }

    #[test]
    fn an_error_of_any_type_converts() {
        let parse = || -> Result<u32, CliError> { Ok("x".parse::<u32>()?) };
        assert_eq!(end(parse().map(drop)).2, "error: invalid digit found in string\n");
        assert_eq!(end(Err(CliError::failed("plain text"))).2, "error: plain text\n");
    }

    #[test]
    fn a_closed_stdout_is_not_a_failure() {
        assert_eq!(finish(Ok(()), &mut Closed, &mut io::sink()), 0);
        assert_eq!(finish(Err(CliError::Help("help".into())), &mut Closed, &mut io::sink()), 0);
        assert_eq!(finish(Err(CliError::failed("x")), &mut Closed, &mut Closed), 1);
        let closed = CliError::from_output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(end(Err(closed)), (0, String::new(), String::new()));
    }

    #[test]
    fn a_full_disk_behind_stdout_is_a_failure() {
        let full = CliError::from_output(io::ErrorKind::StorageFull.into());
        let (code, _, err) = end(Err(full));
        assert_eq!(
            (code, err.as_str()),
            (1, "error: cannot write to stdout\n  caused by: no storage space\n")
        );
    }

    #[test]
    fn an_endless_chain_is_cut() {
        let mut error = layer("0", None);
        for depth in 1..1000 {
            error = layer(&format!("layer {depth}"), Some(error));
        }
        assert_eq!(Chain(error.as_ref()).to_string().lines().count(), MAX_CAUSES + 1);
    }
}
