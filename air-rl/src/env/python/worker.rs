//! A worker: a process of Python with some environments.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use air_core::awake::Patience;
use air_core::process::{Guard, Process};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::PythonConfig;
use super::layout::Layout;
use super::told::Told;

const SCRIPT: &str = include_str!("worker.py");
/// Longest message of a worker, bytes: the bounds of its spaces are the largest thing it tells.
const MESSAGE: usize = 64 << 20;
/// How long an answer is awaited awake: about what a few steps in Python take.
const AWAKE: Duration = Duration::from_micros(400);

/// How long a process may take to end after its last word.
const ENDING: Duration = Duration::from_secs(5);

/// Why a worker is of no use any more.
#[derive(Debug)]
pub(super) enum Lost {
    /// It ended.
    Ended(ExitStatus),
    /// It did not answer in time.
    Silent(Duration),
    /// It said why it cannot go on.
    Said(String),
    /// It could not be started or talked to.
    Io(io::Error),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(status) if status.code() == Some(127) => write!(f, "there is no such program"),
            Self::Ended(status) => write!(f, "its process ended ({status})"),
            Self::Silent(span) => write!(f, "it did not answer within {} s", span.as_secs_f64()),
            Self::Said(text) => write!(f, "{}", text.trim_end()),
            Self::Io(error) => write!(f, "its process cannot be run: {error}"),
        }
    }
}

/// A process that has been started, its imports perhaps still going on.
pub(super) struct Starting {
    process: Process,
    wire: UnixStream,
    envs: usize,
}

/// A process whose environments can be stepped.
pub(super) struct Worker {
    process: Process,
    wire: UnixStream,
    memory: File,
    layout: Layout,
    deadline: Duration,
    patience: Patience,
    /// The bytes of the last step, as they lie in the memory.
    brought: Vec<u8>,
}

impl Starting {
    /// Starts a process for `envs` environments, or without them for one of several agents.
    pub(super) fn spawn(
        guard: &Arc<Guard>,
        config: &PythonConfig,
        name: &str,
        kwargs: &Map<String, Value>,
        envs: Option<usize>,
    ) -> Result<Self, Lost> {
        let (wire, theirs) = UnixStream::pair().map_err(Lost::Io)?;
        let spec = json!({"name": name, "kwargs": kwargs, "envs": envs}).to_string();
        let argv = [config.program(), "-u".into(), "-c".into(), SCRIPT.into(), spec];
        let mut command = Guard::command(&argv);
        command.stdout(Stdio::from(OwnedFd::from(theirs))).stderr(Stdio::inherit());
        let process = guard.spawn(command).map_err(Lost::Io)?;
        let deadline = Duration::from_secs_f64(config.start_seconds);
        wire.set_read_timeout(Some(deadline)).map_err(Lost::Io)?;
        Ok(Self { process, wire, envs: envs.unwrap_or(1) })
    }

    /// Waits until its environments are made.
    pub(super) fn ready<T: Told>(mut self, config: &PythonConfig) -> Result<(Worker, T), Lost> {
        match self.greet() {
            Ok((told, layout, memory)) => {
                let deadline = Duration::from_secs_f64(config.step_seconds);
                self.wire.set_read_timeout(Some(deadline)).map_err(Lost::Io)?;
                let worker = Worker {
                    brought: vec![0; layout.r#final - layout.reward],
                    process: self.process,
                    wire: self.wire,
                    memory,
                    layout,
                    deadline,
                    patience: Patience::up_to(AWAKE),
                };
                Ok((worker, told))
            }
            Err(error) => {
                let deadline = Duration::from_secs_f64(config.start_seconds);
                Err(fate(&mut self.process, error, deadline))
            }
        }
    }

    fn greet<T: Told>(&mut self) -> Result<(T, Layout, File), Failure> {
        match byte(&self.wire)? {
            b'i' => {}
            other => return Err(complaint(&self.wire, other)),
        }
        let told: T = message(&self.wire)?;
        let layout = told.layout(self.envs).map_err(Failure::Lost)?;
        let memory = memory(&layout)?;
        tell(&self.wire, &layout, memory.path())?;
        match byte(&self.wire)? {
            b'k' => {}
            other => return Err(complaint(&self.wire, other)),
        }
        // Both sides have it open now, so its name can go: nothing is left in the folder however we end.
        let (file, path) = memory.into_parts();
        path.close()?;
        Ok((told, layout, file))
    }
}

/// A file of the layout's size, in memory where there is such a folder.
fn memory(layout: &Layout) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("air-env-");
    let file = builder.tempfile_in("/dev/shm").or_else(|_| builder.tempfile())?;
    file.as_file().set_len(layout.bytes as u64)?;
    Ok(file)
}

fn tell(mut wire: &UnixStream, layout: &Layout, path: &Path) -> io::Result<()> {
    #[derive(Serialize)]
    struct Shared<'a> {
        path: &'a Path,
        #[serde(flatten)]
        layout: &'a Layout,
    }
    let text = serde_json::to_string(&Shared { path, layout })?;
    write!(wire, "{:08}{text}", text.len())
}

/// What went wrong while talking, before it is known what became of the process.
#[derive(Debug)]
enum Failure {
    Io(io::Error),
    Lost(Lost),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn byte(mut wire: &UnixStream) -> io::Result<u8> {
    let mut one = [0];
    wire.read_exact(&mut one)?;
    Ok(one[0])
}

fn message<T: for<'de> Deserialize<'de>>(mut wire: &UnixStream) -> Result<T, Failure> {
    let strange = |why: String| Failure::Lost(Lost::Said(format!("its answer cannot be read: {why}")));
    let mut digits = [0; 8];
    wire.read_exact(&mut digits)?;
    let length = std::str::from_utf8(&digits).ok().and_then(|text| text.parse::<usize>().ok());
    let length = length.filter(|&n| n <= MESSAGE).ok_or_else(|| strange(format!("length {digits:?}")))?;
    let mut text = vec![0; length];
    wire.read_exact(&mut text)?;
    serde_json::from_slice(&text).map_err(|e| strange(e.to_string()))
}

/// What an answer means that was not hoped for.
fn complaint(wire: &UnixStream, byte: u8) -> Failure {
    match byte {
        b'e' => match message(wire) {
            Ok(text) => Failure::Lost(Lost::Said(text)),
            Err(failure) => failure,
        },
        other => Failure::Lost(Lost::Said(format!("it answered {other}"))),
    }
}

/// What a failure to talk says of the process, which is not running afterwards.
fn fate(process: &mut Process, failure: Failure, deadline: Duration) -> Lost {
    let silent =
        matches!(&failure, Failure::Io(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    // One that hung up or said that it cannot go on is ending.
    let status = process.end_within(if silent { Duration::ZERO } else { ENDING });
    match (failure, status) {
        (Failure::Lost(lost), _) => lost,
        (Failure::Io(_), _) if silent => Lost::Silent(deadline),
        (Failure::Io(_), Ok(status)) => Lost::Ended(status),
        (Failure::Io(error), Err(_)) => Lost::Io(error),
    }
}

impl Worker {
    /// Asks for a reset with these seeds; [`wait`](Self::wait) for it.
    pub(super) fn reset(&mut self, seeds: &[u64]) -> Result<(), Lost> {
        let bytes: Vec<u8> = seeds.iter().flat_map(|seed| seed.to_ne_bytes()).collect();
        self.ask(b'r', &bytes, self.layout.seeds)
    }

    /// Asks for the next episode, of an environment of several agents; [`wait`](Self::wait) for it.
    pub(super) fn begin(&mut self) -> Result<(), Lost> {
        self.ask(b'b', &[], 0)
    }

    /// Asks for a step with these actions, in the machine's order of bytes; [`wait`](Self::wait) for it.
    pub(super) fn step(&mut self, actions: &[u8]) -> Result<(), Lost> {
        self.ask(b's', actions, self.layout.actions)
    }

    fn ask(&mut self, verb: u8, bytes: &[u8], at: usize) -> Result<(), Lost> {
        let asked = self.memory.write_all_at(bytes, at as u64).and_then(|()| (&self.wire).write_all(&[verb]));
        asked.map_err(|error| fate(&mut self.process, error.into(), self.deadline))
    }

    /// Waits for the answer; what environments that failed and were replaced said.
    pub(super) fn wait(&mut self) -> Result<Vec<String>, Lost> {
        self.answer().map_err(|failure| fate(&mut self.process, failure, self.deadline))
    }

    fn answer(&mut self) -> Result<Vec<String>, Failure> {
        let failures = match self.first_byte()? {
            b'k' => Vec::new(),
            b'f' => message(&self.wire)?,
            other => return Err(complaint(&self.wire, other)),
        };
        self.memory.read_exact_at(&mut self.brought, self.layout.reward as u64)?;
        Ok(failures)
    }

    /// Awake for a moment, then asleep until the deadline.
    fn first_byte(&mut self) -> io::Result<u8> {
        self.wire.set_nonblocking(true)?;
        let seen = Cell::new(None);
        let wire = &self.wire;
        self.patience.wait(|| {
            let read = byte(wire);
            let there = !matches!(&read, Err(e) if e.kind() == ErrorKind::WouldBlock);
            if there {
                seen.set(Some(read));
            }
            there
        });
        self.wire.set_nonblocking(false)?;
        seen.take().unwrap_or_else(|| byte(&self.wire))
    }

    /// Rewards of the last step, `[envs]`.
    pub(super) fn rewards(&self) -> impl Iterator<Item = f64> + '_ {
        self.part(self.layout.reward, self.layout.obs).as_chunks().0.iter().map(|&b| f64::from_ne_bytes(b))
    }

    /// Flags of the last step, `[envs]`.
    pub(super) fn flags(&self) -> &[u8] {
        self.part(self.layout.flags, self.layout.mask)
    }

    /// What may be done now, `[envs, mask_len]`.
    pub(super) fn masks(&self) -> &[u8] {
        let envs = self.layout.mask - self.layout.flags;
        self.part(self.layout.mask, self.layout.mask + envs * self.layout.mask_len)
    }

    /// Writes the observations into `obs[envs, obs_len]`.
    pub(super) fn observations(&self, obs: &mut [f32]) {
        copy_reals(self.part(self.layout.obs, self.layout.flags), obs);
    }

    /// Writes the last observations of episodes that ended into `rows[envs, obs_len]`; other rows are of no use.
    pub(super) fn finals(&mut self, rows: &mut [f32]) -> Result<(), Lost> {
        let mut bytes = vec![0; self.layout.bytes - self.layout.r#final];
        let read = self.memory.read_exact_at(&mut bytes, self.layout.r#final as u64);
        read.map_err(|error| fate(&mut self.process, error.into(), self.deadline))?;
        copy_reals(&bytes, rows);
        Ok(())
    }

    fn part(&self, from: usize, to: usize) -> &[u8] {
        &self.brought[from - self.layout.reward..to - self.layout.reward]
    }
}

fn copy_reals(bytes: &[u8], reals: &mut [f32]) {
    for (x, &b) in reals.iter_mut().zip(bytes.as_chunks().0) {
        *x = f32::from_ne_bytes(b);
    }
}
