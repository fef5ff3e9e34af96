//! Lines on the terminal that say how far a run has come: one an operator.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::{Bytes, Stats};
use super::run::Run;
use crate::session::{AbortOnDrop, Session};

/// How often they are drawn; a shorter run shows nothing.
const PERIOD: Duration = Duration::from_millis(300);

/// Rows that have come out of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(pub(super) Arc<AtomicU64>);

impl Progress {
    pub(crate) fn add(&self, rows: usize) {
        self.0.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

/// Draws a run on stderr where that is a terminal and the session wants it, until the result is dropped.
pub(super) fn draw(session: &Session, run: &Arc<Run>) -> Option<AbortOnDrop<()>> {
    if !session.config().progress || !std::io::stderr().is_terminal() {
        return None;
    }
    let run = run.clone();
    let lines = Lines(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()));
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        lines.0.set_style(style);
    }
    let task = session.compute().ok()?.spawn(async move {
        let lines = lines;
        let mut before = None;
        loop {
            tokio::time::sleep(PERIOD).await;
            let stats = run.stats();
            if before.is_none() {
                lines.0.set_draw_target(ProgressDrawTarget::stderr());
            }
            lines.0.set_message(text(&stats, before.as_ref()));
            before = Some(stats);
        }
    });
    Some(AbortOnDrop(task))
}

/// Takes the lines away when it goes.
struct Lines(ProgressBar);

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What is drawn: rows, rate, bytes and queue of each operator.
fn text(now: &Stats, before: Option<&Stats>) -> String {
    let seconds = before.map_or(now.wall, |before| now.wall.saturating_sub(before.wall)).as_secs_f64();
    let mut lines = vec![format!("{} rows in {:.1} s", now.rows, now.wall.as_secs_f64())];
    for (place, operator) in now.operators.iter().enumerate() {
        let Some(rows) = operator.rows else { continue };
        let earlier = before.and_then(|before| before.operators.get(place)?.rows).unwrap_or(0);
        let rate = rows.saturating_sub(earlier) as f64 / seconds.max(1e-9);
        let name: String = operator.name.chars().take(28).collect();
        lines.push(format!(
            "  {name:<28} {rows:>12} rows {rate:>10.0}/s {:>10} queue {:>10}",
            Bytes(operator.bytes.unwrap_or(0)).to_string(),
            Bytes(operator.queued_bytes).to_string(),
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::BudgetUse;
    use crate::stats::{OperatorStats, RunState};

    #[test]
    fn a_line_an_operator_with_its_rate_since_the_last_time() {
        let stats = |seconds: u64, rows: u64| Stats {
            state: RunState::Running,
            wall: Duration::from_secs(seconds),
            rows,
            operators: vec![
                OperatorStats { name: "waits".to_owned(), ..OperatorStats::default() },
                OperatorStats {
                    name: "map".to_owned(),
                    rows: Some(rows),
                    bytes: Some(2048),
                    queued_bytes: 10,
                    ..OperatorStats::default()
                },
            ],
            budget: BudgetUse::default(),
            skipped: Vec::new(),
        };
        let drawn = text(&stats(4, 1000), Some(&stats(2, 400)));
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[0], "1000 rows in 4.0 s");
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>().join(" "),
            "map 1000 rows 300/s 2.0 KiB queue 10 B"
        );
        assert_eq!(lines.len(), 2);
    }
}
