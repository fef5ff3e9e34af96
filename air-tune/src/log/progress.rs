//! One line on the terminal that says how far the experiment is.

use std::io::IsTerminal;
use std::time::Duration;

use air_core::BoxError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Callback, Event};
use crate::controller::Status;
use crate::search::Mode;

/// Redraws one line on standard error; silent where that is no terminal.
pub struct Progress {
    bar: ProgressBar,
    metric: String,
    mode: Mode,
    best: Option<(u64, f64)>,
    running: u64,
    stopped: u64,
    failed: u64,
}

impl Progress {
    /// A line for an experiment of `total` trials, if that is known.
    pub fn new(metric: &str, mode: Mode, total: Option<u64>) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(8)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let form = if total.is_some() {
            "{pos}/{len} trials [{elapsed}, {eta} left] {msg}"
        } else {
            "{pos} trials [{elapsed}] {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, metric: metric.to_owned(), mode, best: None, running: 0, stopped: 0, failed: 0 }
    }

    /// Whether there is a terminal to draw on.
    pub fn is_visible() -> bool {
        std::io::stderr().is_terminal()
    }

    fn message(&self) -> String {
        let best = match self.best {
            Some((trial, value)) => format!("best {} {value:.6} (trial {trial})", self.metric),
            None => format!("no {} yet", self.metric),
        };
        format!("{best} · {} running · {} stopped · {} failed", self.running, self.stopped, self.failed)
    }
}

impl Callback for Progress {
    fn name(&self) -> &'static str {
        "the progress line"
    }

    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError> {
        for event in events {
            match event {
                Event::Started { .. } => self.running += 1,
                Event::Requeued { .. } | Event::Paused { .. } => {
                    self.running = self.running.saturating_sub(1);
                }
                Event::Reported { .. } | Event::Changed { .. } => {}
                Event::Ended(result) => {
                    self.running = self.running.saturating_sub(1);
                    self.stopped += u64::from(result.status == Status::Stopped);
                    self.failed += u64::from(result.status == Status::Failed);
                    self.bar.inc(1);
                    if let Some(value) = result.value.filter(|_| result.status != Status::Failed)
                        && self.best.is_none_or(|(_, best)| self.mode.better(value, best))
                    {
                        self.best = Some((result.trial, value));
                    }
                }
            }
        }
        self.bar.set_message(self.message());
        Ok(())
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}
