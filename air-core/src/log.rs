//! [`init`]: log lines to stderr, chosen by the environment variable `AIR_LOG`.
//!
//! Results go to stdout and logs to stderr, so a pipe carries results only. Libraries write through
//! [`tracing`]; a binary calls [`init`] once, and a program that embeds the crates may install any other
//! subscriber instead.

use std::io::{IsTerminal as _, Write as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The environment variable that chooses what is logged, in `tracing`'s own syntax:
/// `AIR_LOG=debug`, `AIR_LOG=warn,air_data=trace`.
pub const VARIABLE: &str = "AIR_LOG";

/// What is logged when `AIR_LOG` is not set.
pub const DEFAULT: &str =
    "warn,air_core=info,air_data=info,air_train=info,air_tune=info,air_serve=info,air_rl=info";

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, the fields of the event beside `timestamp`, `level`, `target` and `message`.
    Json,
}

/// Sends log lines to stderr, as text. Returns whether this call did so: `false` where a subscriber is installed already.
///
/// An `AIR_LOG` that cannot be understood is reported on stderr, and the default used.
pub fn init() -> bool {
    init_as(Format::Text)
}

/// [`init`], with lines of a format.
pub fn init_as(format: Format) -> bool {
    let wanted = std::env::var(VARIABLE).ok();
    let filter = match filter(wanted.as_deref()) {
        Ok(filter) => filter,
        Err(error) => {
            // Nothing can be done about a closed stderr.
            let _ = writeln!(std::io::stderr(), "warning: {VARIABLE} is ignored: {error}");
            EnvFilter::new(DEFAULT)
        }
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // What libraries write through `log` comes out here too.
    match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init().is_ok(),
        Format::Json => lines.json().flatten_event(true).finish().try_init().is_ok(),
    }
}

fn filter(wanted: Option<&str>) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    match wanted {
        None | Some("") => Ok(EnvFilter::new(DEFAULT)),
        Some(text) => EnvFilter::builder().parse(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_variable_chooses_and_nonsense_is_refused() {
        assert_eq!(filter(Some("air_data=trace")).unwrap().to_string(), "air_data=trace");
        assert!(filter(None).unwrap().to_string().contains("air_core=info"));
        assert!(filter(Some("")).unwrap().to_string().contains("air_core=info"));
        assert!(filter(Some("air_data=loud")).is_err());
    }
}
