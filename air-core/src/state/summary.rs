//! A [`State`] as text for a terminal.

use std::fmt::Write;

use super::{Event, EventKind, State};
use crate::{LeftBehind, WorkerState};

/// Workers listed one by one: those that failed last, then the fullest.
const WORKERS: usize = 20;
/// Workers listed that have ended for good, the last first.
const ENDED: usize = 5;
/// Events listed.
const EVENTS: usize = 20;

impl State {
    /// The state as a page of text, as `air-core status` prints it.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let counters = &self.counters;
        let queued: usize = self.workers.iter().map(|worker| worker.queued).sum();
        writeln!(
            to,
            "up {:.1} s, {} workers, {queued} messages waiting; {} restarts, {} abandoned, {} dead letters",
            self.at.as_secs_f64(),
            self.workers.len(),
            counters.restarts,
            counters.abandoned,
            counters.dead_letters,
        )?;
        let (tasks, objects) = (&self.tasks, &self.objects);
        writeln!(
            to,
            "{} tasks under way on {} threads; objects: {} of {} bytes in memory, {} on disk",
            tasks.pending,
            tasks.threads,
            objects.in_memory_bytes,
            objects.budget_bytes,
            objects.spilled_bytes,
        )?;
        let resources = &self.resources;
        writeln!(to, "\nresources  {}\n     free  {}", resources.total, resources.free)?;
        for held in &resources.held {
            let owner = held.owner.as_deref().unwrap_or("(no owner)");
            writeln!(to, "     held  {} by {owner} in {} leases", held.resources, held.leases)?;
        }
        for waiting in resources.waiting.iter().take(EVENTS) {
            let owner = waiting.owner.as_deref().unwrap_or("(no owner)");
            let seconds = waiting.waited.as_secs_f64();
            writeln!(to, "  waiting  {} for {owner}, {seconds:.1} s: {}", waiting.resources, waiting.reason)?;
        }
        if resources.waiting_requests > EVENTS {
            writeln!(to, "  waiting  {} requests in all", resources.waiting_requests)?;
        }
        for life in &self.left_behind {
            let since = self.at.saturating_sub(life.at).as_secs_f64();
            let LeftBehind { name, generation, resources, .. } = life;
            writeln!(to, "left behind  life {generation} of {name}, {since:.1} s ago, with {resources}")?;
        }
        if !self.workers.is_empty() || !self.ended.is_empty() {
            writeln!(to, "\n{:10} {:>8} {:>12} {:>8}  worker", "phase", "waiting", "handled", "restarts")?;
        }
        let mut workers: Vec<&WorkerState> = self.workers.iter().collect();
        workers.sort_by_key(|w| {
            (w.exits.last().map(|exit| std::cmp::Reverse(exit.at)).is_none(), std::cmp::Reverse(w.queued))
        });
        let ended = self.ended.iter().rev().take(ENDED);
        for worker in workers.iter().copied().take(WORKERS).chain(ended) {
            let WorkerState { name, queued, handled, restarts, .. } = worker;
            let phase = format!("{:?}", worker.phase).to_lowercase();
            write!(to, "{phase:10} {queued:>8} {handled:>12} {restarts:>8}  {name}")?;
            match &worker.last_exit {
                Some(exit) => writeln!(to, " ({exit})")?,
                None => writeln!(to)?,
            }
        }
        if workers.len() > WORKERS {
            writeln!(to, "… and {} more (--json lists all)", workers.len() - WORKERS)?;
        }
        if !self.events.is_empty() {
            writeln!(to, "\nlately")?;
        }
        let first = self.events.len().saturating_sub(EVENTS);
        for Event { at, name, kind, .. } in &self.events[first..] {
            write!(to, "{:>10.3} s  {name} {}", at.as_secs_f64(), kind.name().replace('_', " "))?;
            match kind {
                EventKind::Exited { cause, .. } | EventKind::GaveUp { cause } => writeln!(to, ": {cause}")?,
                _ => writeln!(to)?,
            }
        }
        Ok(())
    }
}
