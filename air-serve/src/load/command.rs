//! `air-serve load`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use air_core::cli::CliError;
use air_core::outln;
use clap::Args;

use super::{LoadConfig, run};

/// More than any body that may be sent; the rest of a file is not read.
const READ_LIMIT: u64 = (64 << 20) + 1;

#[derive(Args, Debug)]
pub(crate) struct Load {
    /// Where to: http://HOST[:PORT]/PATH. Only this machine, unless --allow-remote is given.
    url: String,
    /// Requests a second, evenly spaced; they are sent whether or not earlier ones were answered.
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    rate: f64,
    /// For how long, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    duration: f64,
    /// At most so many requests.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Connections. A request for which none is free waits, and the wait is part of its latency.
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
    /// How long after it was due a request may be answered, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    timeout: f64,
    /// The method [default: GET without a body, POST with one].
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// The body of every request.
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    body: Option<String>,
    /// A file that holds the body of every request.
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// A header, as in "x-api-key: secret"; may be given often [Content-Type: application/json where there is a body].
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// What every 2xx answer must be, to the byte; others are counted as wrong_answer.
    #[arg(long, value_name = "TEXT")]
    expect: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Load a host that is not this machine. Do so only where you may.
    #[arg(long)]
    allow_remote: bool,
}

impl Load {
    /// Sends the load and prints what came of it.
    pub(crate) fn execute(self) -> Result<(), CliError> {
        let json = self.json;
        let report = run(&self.config()?)?;
        if json {
            outln!("{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            outln!("{report}")?;
        }
        if report.answered == 0 {
            return Err(CliError::failed("not one request was answered"));
        }
        Ok(())
    }

    fn config(self) -> Result<LoadConfig, CliError> {
        let mut body = self.body.unwrap_or_default().into_bytes();
        if let Some(path) = self.body_file {
            let opened = File::open(&path).and_then(|file| file.take(READ_LIMIT).read_to_end(&mut body));
            opened.map_err(|error| CliError::failed(format!("cannot read {}: {error}", path.display())))?;
        }
        let header = |line: String| {
            let split =
                line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
            split.ok_or_else(|| CliError::usage(format!("{line:?} is not a header: write NAME: VALUE")))
        };
        let mut config = LoadConfig::new(self.url);
        config.rate = self.rate;
        config.duration_s = self.duration;
        config.count = self.count;
        config.connections = self.connections;
        config.timeout_s = self.timeout;
        config.method = self.method;
        config.body = body;
        config.headers = self.header.into_iter().map(header).collect::<Result<_, _>>()?;
        config.expect = self.expect.map(String::into_bytes);
        config.allow_remote = self.allow_remote;
        Ok(config)
    }
}
