//! `enjoy`: episodes to be looked at, in the terminal or in a file.

use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use air_core::cli::CliError;
use air_core::outln;
use air_core::seed::Seed;
use clap::{Args, ValueEnum};
use serde_json::json;
use tempfile::NamedTempFile;

use super::setup::options;
use super::{misfit, python, usage};
use crate::envs::EnvSpec;
use crate::error::RlError;
use crate::saved::checkpoint::Saved;
use crate::view::{GifConfig, GifWriter, Viewer, text};

/// The most pictures of one file.
const MOST_PICTURES: u64 = 20_000;
/// Items of an observation that are shown where there is no picture of it.
const SHOWN: usize = 12;

#[derive(Args)]
pub(super) struct Enjoy {
    #[command(flatten)]
    python: python::Python,
    /// A checkpoint that `train --out` wrote, or the directory of several
    checkpoint: String,
    /// Episodes to play: the first of those that `eval` plays
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    episodes: u64,
    /// Seed of the first states
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// An environment other than the one it was trained in
    #[arg(long)]
    env: Option<String>,
    /// An option of the environment, such as length=10; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    env_set: Vec<String>,
    /// Break off an episode after this many steps
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_steps: u64,
    /// Write the episodes as an animation, a GIF file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show the episodes in the terminal [default: if there is one, and no --out]
    #[arg(long, value_enum)]
    show: Option<Show>,
    /// Pictures a second
    #[arg(long, default_value_t = GifConfig::default().fps)]
    fps: f64,
    /// Pixels in a row of the file
    #[arg(long, default_value_t = GifConfig::default().width)]
    width: usize,
    /// Rows of pixels of the file
    #[arg(long, default_value_t = GifConfig::default().height)]
    height: usize,
    /// Characters in a line of the terminal's picture
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u64).range(16..=400))]
    columns: u64,
    /// One JSON object instead of a sentence; nothing is shown
    #[arg(long, conflicts_with = "show")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Show {
    /// In colours and at its speed on a terminal, as plain text elsewhere
    Always,
    /// Not at all
    Never,
}

pub(super) fn run(args: &Enjoy) -> Result<(), CliError> {
    let gif = GifConfig { width: args.width, height: args.height, fps: args.fps };
    gif.validate().map_err(usage)?;
    if args.out.as_ref().is_some_and(|out| !out.extension().is_some_and(|e| e.eq_ignore_ascii_case("gif"))) {
        return Err(CliError::usage("--out must be a file whose name ends in .gif"));
    }
    let saved = Saved::read(&args.checkpoint)?;
    let (name, mut env_options) = match &args.env {
        Some(env) => (env, serde_json::Map::new()),
        None => (python::named(&saved)?, saved.run.env_options.clone()),
    };
    env_options.extend(options(&args.env_set)?);
    let registry = args.python.registry()?;
    let env = registry.spec_with(name, env_options).map_err(usage)?;
    let policy = saved.policy()?;
    let mut stage = Stage::new(args, gif, Viewer::new(&registry, &env))?;

    let mut envs = env.make(1)?;
    policy
        .fits(envs.observation_space(), envs.action_space())
        .map_err(|error| misfit(error, &saved, name))?;
    let mut played = Vec::new();
    for episode in 0..args.episodes {
        envs.reset(&[Seed::new(args.seed).child("evaluate", episode).value()])?;
        policy.begin();
        let (mut total, mut steps) = (0.0, 0);
        stage.see(envs.batch().obs_row(0), &format!("episode {}, step 0", episode + 1))?;
        while steps < args.max_steps {
            let action = policy.act_masked(envs.batch().obs_row(0), &envs.batch().mask)?;
            envs.step(action.alone())?;
            let batch = envs.batch();
            total += batch.reward[0];
            steps += 1;
            let status = format!("episode {}, step {steps}, return {total:.2}", episode + 1);
            stage.see(batch.final_row(0).unwrap_or_else(|| batch.obs_row(0)), &status)?;
            if batch.final_row(0).is_some() {
                break;
            }
        }
        played.push((total, steps));
    }
    say(args, &env, &played, stage.finish()?)
}

fn say(args: &Enjoy, env: &EnvSpec, played: &[(f64, u64)], pictures: u64) -> Result<(), CliError> {
    let mean = played.iter().map(|(total, _)| total).sum::<f64>() / played.len() as f64;
    let steps: u64 = played.iter().map(|(_, steps)| steps).sum();
    if args.json {
        return outln!(
            "{}",
            json!({
                "env": env.name(), "episodes": played.len(), "steps": steps, "mean_return": mean,
                "out": args.out, "pictures": pictures,
            })
        );
    }
    outln!("{} episodes, {steps} steps, mean return {mean:.2}", played.len())?;
    match &args.out {
        Some(out) => outln!("{pictures} pictures in {}", out.display()),
        None => Ok(()),
    }
}

/// Where pictures go.
struct Stage<'a> {
    viewer: Option<Viewer>,
    recording: Option<Recording<'a>>,
    shown: Option<Shown>,
}

impl<'a> Stage<'a> {
    fn new(args: &'a Enjoy, gif: GifConfig, viewer: Result<Viewer, RlError>) -> Result<Self, CliError> {
        let terminal = std::io::stdout().is_terminal();
        let show = match args.show {
            Some(show) => show == Show::Always,
            None => terminal && args.out.is_none() && !args.json,
        };
        let viewer = match viewer {
            Ok(viewer) => Some(viewer),
            // Numbers are shown where there is no picture.
            Err(RlError::NotDrawn { .. }) if args.out.is_none() => None,
            Err(error) => return Err(usage(error)),
        };
        let recording = args.out.as_deref().map(|out| Recording::begin(out, gif)).transpose()?;
        let pause = if terminal { Duration::from_secs_f64(1.0 / args.fps) } else { Duration::ZERO };
        let shown = show.then(|| Shown {
            terminal,
            pause,
            columns: args.columns as usize,
            lines: 0,
            next: Instant::now(),
        });
        Ok(Self { viewer, recording, shown })
    }

    fn see(&mut self, obs: &[f32], status: &str) -> Result<(), CliError> {
        if let (Some(recording), Some(viewer)) = (&mut self.recording, &self.viewer) {
            recording.add(viewer, obs)?;
        }
        if let Some(shown) = &mut self.shown {
            shown.show(self.viewer.as_ref(), obs, status)?;
        }
        Ok(())
    }

    /// How many pictures were written.
    fn finish(self) -> Result<u64, CliError> {
        self.recording.map_or(Ok(0), Recording::finish)
    }
}

/// An animation on its way to a file, which is there once it is complete.
struct Recording<'a> {
    out: &'a Path,
    config: GifConfig,
    writer: GifWriter<BufWriter<NamedTempFile>>,
    pictures: u64,
}

impl<'a> Recording<'a> {
    fn begin(out: &'a Path, config: GifConfig) -> Result<Self, CliError> {
        let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Readable by whoever may read new files here, unlike what is only temporary.
        let permissions = std::fs::Permissions::from_mode(0o666);
        let file = tempfile::Builder::new().permissions(permissions).tempfile_in(dir);
        let file = file.map_err(|e| unwritable(out, &e))?;
        let writer = GifWriter::new(BufWriter::new(file), config).map_err(|e| unwritable(out, &e))?;
        Ok(Self { out, config, writer, pictures: 0 })
    }

    fn add(&mut self, viewer: &Viewer, obs: &[f32]) -> Result<(), CliError> {
        if self.pictures == MOST_PICTURES {
            return Ok(());
        }
        self.pictures += 1;
        if self.pictures == MOST_PICTURES {
            eprintln!("only the first {MOST_PICTURES} pictures are written");
        }
        let picture = viewer.draw(obs, self.config.width, self.config.height);
        self.writer.add(picture).map_err(|e| unwritable(self.out, &e))
    }

    fn finish(self) -> Result<u64, CliError> {
        let file = self.writer.finish().map_err(|e| unwritable(self.out, &e))?;
        let file = file.into_inner().map_err(|e| unwritable(self.out, e.error()))?;
        file.persist(self.out).map_err(|e| unwritable(self.out, &e.error))?;
        Ok(self.pictures)
    }
}

fn unwritable(out: &Path, why: &dyn std::fmt::Display) -> CliError {
    CliError::failed(format!("cannot write {}: {why}", out.display()))
}

/// Pictures in a terminal, each over the last.
struct Shown {
    terminal: bool,
    pause: Duration,
    columns: usize,
    /// Of the last picture.
    lines: usize,
    next: Instant,
}

impl Shown {
    fn show(&mut self, viewer: Option<&Viewer>, obs: &[f32], status: &str) -> Result<(), CliError> {
        let picture = match viewer {
            Some(viewer) => text(&viewer.draw(obs, self.columns, self.columns / 2), self.terminal),
            None => numbers(obs),
        };
        let mut out = String::new();
        if self.terminal && self.lines > 0 {
            out = format!("\x1b[{}A", self.lines);
        }
        out.push_str(&picture);
        out.push_str(status);
        out.push_str(if self.terminal { "\x1b[K\n" } else { "\n" });
        self.lines = picture.lines().count() + 1;
        if self.terminal {
            std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
            self.next = Instant::now() + self.pause;
        }
        outln!("{}", out.trim_end_matches('\n'))?;
        std::io::stdout().flush().map_err(CliError::failed)
    }
}

fn numbers(obs: &[f32]) -> String {
    let shown: Vec<String> = obs.iter().take(SHOWN).map(|x| format!("{x:.3}")).collect();
    let more = if obs.len() > SHOWN { format!(", … {} more", obs.len() - SHOWN) } else { String::new() };
    format!("[{}{more}]\n", shown.join(", "))
}
