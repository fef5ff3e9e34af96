//! One attempt: a process for each rank, followed until all have ended.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use air_core::checkpoint::Checkpoint;
use air_core::process::{Group, Guard, Process, Signal};
use bytes::Bytes;

use super::Job;
use super::env::Addresses;
use super::output::{Printed, lines, report};
use crate::failure::Cause;
use crate::record::{Record, Report};

/// How long output may follow the end of a rank whose children left its process group.
const LINGER: Duration = Duration::from_secs(1);
/// The largest checkpoint taken over from a rank's disk: 16 GiB.
const MAX_CHECKPOINT_BYTES: u64 = 16 << 30;
/// The most files of a checkpoint, and the deepest nesting.
const MAX_FILES: usize = 10_000;

enum Event {
    Line {
        rank: usize,
        error: bool,
        text: String,
    },
    /// One of a rank's two streams has ended.
    StreamEnd,
    Exit {
        rank: usize,
        status: std::io::Result<ExitStatus>,
    },
}

/// Runs every rank to its end. The first that fails ends all others at once; the error is that rank and its cause.
pub(super) fn run(job: &Job, record: &Record) -> Result<(), (usize, Cause)> {
    let lost =
        |rank: usize, what: &str, error: std::io::Error| (rank, Cause::Lost(format!("{what}: {error}")));
    let addresses = Addresses::free(job.world).map_err(|e| lost(0, "no free ports", e))?;
    let guard = Guard::start().map_err(|e| lost(0, "cannot start /bin/sh", e))?;
    let (sender, events) = sync_channel(256);
    let mut groups = Vec::new();
    let mut first = None;
    for rank in 0..job.world {
        let started = spawn(job, rank, &addresses, record, &guard).map(|process| {
            groups.push(process.group());
            follow(process, rank, &sender);
        });
        if let Err(error) = started {
            first = Some(lost(rank, &format!("cannot start `{}`", job.command.join(" ")), error));
            break;
        }
    }
    drop(sender);
    let mut attempt = Attempt { job, record, groups, first, iteration: 0, streams: 0 };
    attempt.iteration = record.latest().map_or(0, |checkpoint| checkpoint.step());
    attempt.attend(&events)
}

struct Attempt<'a> {
    job: &'a Job,
    record: &'a Record,
    groups: Vec<Group>,
    first: Option<(usize, Cause)>,
    iteration: u64,
    streams: usize,
}

impl Attempt<'_> {
    fn attend(mut self, events: &Receiver<Event>) -> Result<(), (usize, Cause)> {
        let mut running = self.groups.len();
        self.streams = 2 * running;
        if self.first.is_some() {
            self.kill();
        }
        while running > 0 || self.streams > 0 {
            let event = if running > 0 {
                events.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                // All ranks have ended; a process that left its group may still hold a stream open.
                events.recv_timeout(LINGER)
            };
            match event {
                Ok(Event::Line { rank, error, text }) => self.line(rank, error, &text),
                Ok(Event::StreamEnd) => self.streams -= 1,
                Ok(Event::Exit { rank, status }) => {
                    running -= 1;
                    self.exit(rank, status);
                }
                Err(_) => break,
            }
        }
        self.first.map_or(Ok(()), Err)
    }

    fn line(&mut self, rank: usize, error: bool, text: &str) {
        let printed = if error || rank > 0 { None } else { report(text) };
        if let Some(Printed { metrics, checkpoint }) = printed {
            self.iteration += 1;
            if let Some(path) = checkpoint
                && let Err(problem) = self.save(&metrics, &path)
            {
                self.fail(
                    rank,
                    Cause::Lost(format!("its checkpoint `{}` cannot be kept: {problem}", path.display())),
                );
            }
            let report = Report { iteration: self.iteration, metrics };
            if self.record.report(report) == ControlFlow::Break(()) {
                self.kill();
            }
        }
        (self.job.relay)(rank, error, text);
    }

    fn save(&self, metrics: &BTreeMap<String, f64>, path: &Path) -> Result<(), crate::BoxError> {
        let files = read_files(path)?;
        let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        Ok(self.record.save(self.iteration, metrics, &files)?)
    }

    fn exit(&mut self, rank: usize, status: std::io::Result<ExitStatus>) {
        let cause = match status {
            Ok(status) if status.success() => return,
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => Cause::Exited(code),
                (None, signal) => Cause::Signalled(signal.unwrap_or(0)),
            },
            Err(error) => Cause::Lost(error.to_string()),
        };
        self.fail(rank, cause);
    }

    /// Notes the first failure and ends every other rank.
    fn fail(&mut self, rank: usize, cause: Cause) {
        if self.first.is_none() && !self.record.is_stopped() {
            self.first = Some((rank, cause));
        }
        self.kill();
    }

    fn kill(&self) {
        for group in &self.groups {
            group.signal(Signal::KILL);
        }
    }
}

fn spawn(
    job: &Job,
    rank: usize,
    addresses: &Addresses,
    record: &Record,
    guard: &Arc<Guard>,
) -> std::io::Result<Process> {
    let mut command = Guard::command(&job.command);
    command.envs(addresses.of_rank(rank)).envs(job.env.iter().map(|(k, v)| (k, v)));
    command.env("AIR_SEED", record.seed.value().to_string()).env_remove("AIR_CHECKPOINT");
    if let Some(path) = record.latest().and_then(|checkpoint: Checkpoint| checkpoint.local_path()) {
        command.env("AIR_CHECKPOINT", std::path::absolute(path)?);
    }
    guard.spawn(command)
}

/// Reads a rank's output and waits for its end, each on a thread of its own.
fn follow(mut process: Process, rank: usize, events: &SyncSender<Event>) {
    let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
        process.stdout().map(|stream| Box::new(stream) as _),
        process.stderr().map(|stream| Box::new(stream) as _),
    ];
    for (stream, error) in streams.into_iter().zip([false, true]) {
        let events = events.clone();
        std::thread::spawn(move || {
            if let Some(stream) = stream {
                let read = lines(stream, |text| events.send(Event::Line { rank, error, text }).is_ok());
                if let Err(problem) = read {
                    tracing::warn!(rank, %problem, "cannot read what a rank prints");
                }
            }
            let _ = events.send(Event::StreamEnd);
        });
    }
    let events = events.clone();
    std::thread::spawn(move || {
        let status = process.wait();
        let _ = events.send(Event::Exit { rank, status });
    });
}

/// A file, or all files below a directory, with names relative to it.
fn read_files(path: &Path) -> std::io::Result<Vec<(String, Bytes)>> {
    let mut files = Vec::new();
    let mut left = MAX_CHECKPOINT_BYTES;
    let mut open = vec![path.to_owned()];
    while let Some(at) = open.pop() {
        let kind = std::fs::metadata(&at)?;
        if kind.is_dir() {
            for entry in std::fs::read_dir(&at)? {
                open.push(entry?.path());
            }
        } else {
            left = left
                .checked_sub(kind.len())
                .ok_or_else(|| std::io::Error::other("it is larger than 16 GiB"))?;
            let name = at.strip_prefix(path).ok().filter(|name| !name.as_os_str().is_empty());
            let name = name.or_else(|| at.file_name().map(Path::new)).unwrap_or(Path::new("checkpoint"));
            files.push((name.to_string_lossy().into_owned(), std::fs::read(&at)?.into()));
        }
        if files.len() + open.len() > MAX_FILES {
            return Err(std::io::Error::other("it has too many files"));
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}
