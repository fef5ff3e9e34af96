//! One run of a command: started, read, told to stop, reaped.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use air_core::BoxError;
use air_core::device::Device;
use air_core::process::{Group, Guard, Process, Signal};
use parking_lot::Mutex;

use super::Command;
use super::output::{Tail, lines, numbers};
use crate::config::Config;
use crate::error::{Cause, Result, TuneError};
use crate::trial::Trial;

/// How often a command that prints nothing is looked after.
const TICK: Duration = Duration::from_millis(200);
/// How long output may follow the end of a command whose children left its process group.
const LINGER: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    /// One of the two streams has ended.
    StreamEnd,
    Exit(std::io::Result<ExitStatus>),
}

pub(super) fn run(command: &Command, trial: &mut Trial, config: &Config) -> Result<(), BoxError> {
    let argv = command.template.argv(config);
    let program = argv.first().cloned().unwrap_or_default();
    let process = spawn(command, trial, config, &argv)
        .map_err(|source| TuneError::Command { program, reason: source.to_string() })?;
    let group = process.group();
    let stderr = Arc::new(Mutex::new(Tail::default()));
    let messages = follow(process, Arc::clone(&stderr), log_path(trial, "stderr.log"));
    let mut running = Running {
        command,
        trial,
        group,
        stdout_log: None,
        reported: false,
        last_line: None,
        seen: Vec::new(),
    };
    let result = running.attend(&messages);
    if result.is_err() {
        group.signal(Signal::KILL);
    }
    let status = result.and_then(|status| match status {
        Some(status) => Ok(status),
        None => wait_for_exit(&messages),
    });
    let stderr = stderr.lock().text();
    let cause = match status? {
        status if status.success() && running.reported => return Ok(()),
        status if status.success() => running.missing_metric(),
        status => match (status.code(), status.signal()) {
            (Some(code), _) => Cause::Exit { code, stderr },
            (None, signal) => Cause::Signal { signal: signal.unwrap_or(0), stderr },
        },
    };
    Err(Box::new(cause))
}

fn spawn(command: &Command, trial: &Trial, config: &Config, argv: &[String]) -> std::io::Result<Process> {
    let mut process = Guard::command(argv);
    process.envs(command.template.env(config));
    process.env("AIR_PARAMS", config.to_value().to_string());
    process.env("AIR_TRIAL", trial.id().to_string());
    process.env("AIR_ATTEMPT", trial.attempt().to_string());
    process.env("AIR_SEED", trial.seed().value().to_string());
    if let Some(resources) = trial.resources() {
        process.env("AIR_CPUS", resources.cpu.to_string()).env("AIR_GPUS", resources.gpu.to_string());
        if resources.gpu > 0.0 {
            let devices = trial.devices();
            let numbers = devices.iter().filter_map(|device| match device {
                Device::Cuda(number) => Some(number.to_string()),
                Device::Cpu => None,
            });
            process.env("CUDA_VISIBLE_DEVICES", numbers.collect::<Vec<_>>().join(","));
        }
    }
    if let Some(dir) = trial.dir() {
        let dir = std::path::absolute(dir)?;
        let checkpoint = dir.join("checkpoint");
        std::fs::create_dir_all(&checkpoint)?;
        process.env("AIR_TRIAL_DIR", dir).env("AIR_CHECKPOINT", checkpoint);
    }
    command.guard.spawn(process)
}

fn log_path(trial: &Trial, name: &str) -> Option<PathBuf> {
    trial.dir().map(|dir| dir.join(name))
}

/// Reads the command's output and waits for its end, each on a thread.
fn follow(mut process: Process, tail: Arc<Mutex<Tail>>, stderr_log: Option<PathBuf>) -> Receiver<Message> {
    let (sender, receiver) = sync_channel::<Message>(64);
    let stdout = process.stdout();
    let stderr = process.stderr();
    let (out, err) = (sender.clone(), sender.clone());
    std::thread::spawn(move || {
        read(stdout, |line| out.send(Message::Line(line)).is_ok());
        let _ = out.send(Message::StreamEnd);
    });
    std::thread::spawn(move || {
        let mut log = None;
        read(stderr, |mut line| {
            line.push(b'\n');
            tail.lock().push(&line);
            keep(&mut log, stderr_log.as_ref(), &line);
            true
        });
        let _ = err.send(Message::StreamEnd);
    });
    std::thread::spawn(move || {
        let _ = sender.send(Message::Exit(process.wait()));
    });
    receiver
}

fn read(stream: Option<impl std::io::Read>, each: impl FnMut(Vec<u8>) -> bool) {
    if let Some(stream) = stream
        && let Err(error) = lines(stream, each)
    {
        tracing::warn!("reading what a command prints: {error}");
    }
}

/// Appends to a log file of the trial; a log that cannot be written is no reason to stop a trial.
fn keep(log: &mut Option<File>, path: Option<&PathBuf>, line: &[u8]) {
    if log.is_none() {
        *log = path.and_then(|path| File::options().create(true).append(true).open(path).ok());
    }
    if let Some(log) = log {
        let _ = log.write_all(line);
    }
}

fn wait_for_exit(messages: &Receiver<Message>) -> Result<ExitStatus, BoxError> {
    loop {
        match messages.recv() {
            Ok(Message::Exit(status)) => return Ok(status?),
            Ok(_) => {}
            Err(_) => return Err("the command's end was not seen".into()),
        }
    }
}

struct Running<'a> {
    command: &'a Command,
    trial: &'a mut Trial,
    group: Group,
    stdout_log: Option<File>,
    reported: bool,
    last_line: Option<String>,
    /// Names of numbers in JSON lines that lacked the metric.
    seen: Vec<String>,
}

impl Running<'_> {
    /// Takes reports until the command has ended and its output with it.
    fn attend(&mut self, messages: &Receiver<Message>) -> Result<Option<ExitStatus>, BoxError> {
        let (mut exit, mut streams, mut kill_at, mut give_up_at) =
            (None, 2, None::<Instant>, None::<Instant>);
        while exit.is_none() || streams > 0 {
            if give_up_at.is_some_and(|at| Instant::now() >= at) {
                break;
            }
            if kill_at.is_some_and(|at| Instant::now() >= at) {
                self.group.signal(Signal::KILL);
            }
            let stop = match messages.recv_timeout(TICK) {
                Ok(Message::Line(line)) => self.line(&line)?,
                Ok(Message::StreamEnd) => {
                    streams -= 1;
                    false
                }
                Ok(Message::Exit(status)) => {
                    exit = Some(status?);
                    give_up_at = Some(Instant::now() + LINGER);
                    false
                }
                Err(RecvTimeoutError::Timeout) => self.trial.signal().is_stop(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if stop && kill_at.is_none() && exit.is_none() {
                self.group.signal(Signal::TERM);
                kill_at = Some(Instant::now() + self.command.grace);
            }
        }
        Ok(exit)
    }

    /// Takes one line; tells whether the trial is to stop.
    fn line(&mut self, line: &[u8]) -> Result<bool> {
        let found = numbers(line).unwrap_or_default();
        if found.iter().any(|(name, _)| *name == self.command.metric) {
            let iteration = found.iter().find(|(name, _)| name == "training_iteration").map(|(_, n)| *n);
            let iteration = iteration.filter(|n| *n >= 1.0 && n.fract() == 0.0).map(|n| n as u64);
            let iteration = iteration.unwrap_or(self.trial.iteration() + 1);
            let pairs: Vec<(&str, f64)> = found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            self.reported = true;
            return Ok(self.trial.report_at(iteration, &pairs)?.is_stop());
        }
        if self.seen.len() < 20 {
            self.seen.extend(found.into_iter().map(|(name, _)| name));
        }
        if !self.reported && !line.trim_ascii().is_empty() {
            self.last_line = Some(String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned());
        }
        let path = log_path(self.trial, "stdout.log");
        keep(&mut self.stdout_log, path.as_ref(), &[line, b"\n"].concat());
        Ok(false)
    }

    fn missing_metric(&mut self) -> Cause {
        self.seen.sort();
        self.seen.dedup();
        let hint = match (&self.seen[..], &self.last_line) {
            ([], None) => "it printed nothing on standard output".to_owned(),
            ([], Some(line)) => {
                format!("no line it printed is a JSON object of numbers; the last one is `{line}`")
            }
            (names, _) => format!("its JSON lines hold {}", names.join(", ")),
        };
        Cause::MissingMetric { metric: self.command.metric.clone(), hint: Some(hint) }
    }
}
