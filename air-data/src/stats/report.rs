//! [`Stats`]: what a run did, as plain data.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::memory::BudgetUse;
use crate::pool::SkippedBatch;

/// What a run of a dataset did, from [`Dataset::stats`](crate::Dataset::stats).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// How far it has come.
    pub state: RunState,
    /// How long it took, or has taken so far.
    pub wall: Duration,
    /// Rows that came out of it; written ones, where it wrote.
    pub rows: u64,
    /// Its operators, the last one first, each before what feeds it.
    pub operators: Vec<OperatorStats>,
    /// The session's memory budget, when these numbers were taken.
    pub budget: BudgetUse,
    /// Batches of worker pools that failed for good and were left out (at most 1000 of each pool).
    pub skipped: Vec<SkippedBatch>,
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunState {
    /// It runs.
    Running,
    /// It came to its end.
    Finished,
    /// Whoever took its rows stopped before the end.
    Stopped,
    /// It ended with this error.
    Failed(String),
}

/// What one operator did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperatorStats {
    /// What it is, as in [`Dataset::explain`](crate::Dataset::explain).
    pub name: String,
    /// Operators between it and the consumer.
    pub depth: usize,
    /// Rows that came out of it.
    pub rows: Option<u64>,
    /// Bytes of those rows.
    pub bytes: Option<u64>,
    /// Time spent in it, over all threads.
    pub busy: Option<Duration>,
    /// Bytes that wait in its queues now.
    pub queued_bytes: u64,
    /// The most bytes that waited in its queues.
    pub queue_peak_bytes: u64,
    /// Bytes that it wrote to disk for want of memory.
    pub spilled_bytes: u64,
    /// A pool's workers, how often they were started again, batches that were tried again, and batches that were left out.
    pub pool: Option<PoolStats>,
}

/// What a worker pool did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PoolStats {
    /// Its workers.
    pub workers: u64,
    /// How often workers were started again.
    pub restarts: u64,
    /// Tries of batches that had failed before.
    pub retries: u64,
    /// Batches that were left out.
    pub skipped: u64,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            RunState::Running => "running for".to_owned(),
            RunState::Finished => "finished in".to_owned(),
            RunState::Stopped => "stopped after".to_owned(),
            RunState::Failed(error) => format!("failed ({error}) after"),
        };
        writeln!(f, "{state} {}: {} rows", Short(self.wall), self.rows)?;
        for operator in &self.operators {
            writeln!(f, "{operator}")?;
        }
        let budget = &self.budget;
        writeln!(
            f,
            "memory: {} of {} in use ({} queued, {} kept, {} operators), at most {}",
            Bytes(budget.in_use_bytes),
            Bytes(budget.limit_bytes),
            Bytes(budget.queued_bytes),
            Bytes(budget.kept_bytes),
            Bytes(budget.operator_bytes),
            Bytes(budget.peak_bytes)
        )?;
        for skipped in &self.skipped {
            let places: Vec<String> = skipped.places.iter().map(ToString::to_string).collect();
            writeln!(f, "left out: {}: {}", places.join(", "), skipped.cause)?;
        }
        Ok(())
    }
}

impl fmt::Display for OperatorStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:1$}{2}", "", 2 * self.depth.min(16), self.name)?;
        if let Some(rows) = self.rows {
            write!(f, ": {rows} rows")?;
        }
        if let Some(bytes) = self.bytes {
            write!(f, ", {}", Bytes(bytes))?;
        }
        if let Some(busy) = self.busy {
            write!(f, ", busy {}", Short(busy))?;
        }
        if self.queue_peak_bytes > 0 {
            write!(f, ", queue {} (at most {})", Bytes(self.queued_bytes), Bytes(self.queue_peak_bytes))?;
        }
        if self.spilled_bytes > 0 {
            write!(f, ", spilled {}", Bytes(self.spilled_bytes))?;
        }
        let Some(pool) = &self.pool else { return Ok(()) };
        write!(f, ", {} workers", pool.workers)?;
        for (count, what) in
            [(pool.restarts, "restarts"), (pool.retries, "retries"), (pool.skipped, "left out")]
        {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// A number of bytes as people write it.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 => write!(f, "{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
            bytes if bytes >= 1 << 20 => write!(f, "{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
            bytes if bytes >= 1 << 10 => write!(f, "{:.1} KiB", bytes as f64 / f64::from(1 << 10)),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() {
            seconds if seconds >= 1.0 => write!(f, "{seconds:.1} s"),
            seconds => write!(f, "{:.1} ms", seconds * 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_well() {
        let pool = PoolStats { workers: 2, restarts: 1, retries: 1, skipped: 0 };
        let stats = Stats {
            state: RunState::Finished,
            wall: Duration::from_millis(1500),
            rows: 10,
            operators: vec![
                OperatorStats {
                    name: "map_batches, workers=2".to_owned(),
                    rows: Some(10),
                    bytes: Some(80),
                    busy: Some(Duration::from_millis(12)),
                    queue_peak_bytes: 2048,
                    pool: Some(pool),
                    ..OperatorStats::default()
                },
                OperatorStats { name: "SourceExec".to_owned(), depth: 1, ..OperatorStats::default() },
            ],
            budget: BudgetUse { limit_bytes: 3 << 30, ..BudgetUse::default() },
            skipped: Vec::new(),
        };
        assert_eq!(
            stats.to_string(),
            "finished in 1.5 s: 10 rows\n\
             map_batches, workers=2: 10 rows, 80 B, busy 12.0 ms, queue 0 B (at most 2.0 KiB), 2 workers, 1 restarts, 1 retries\n  \
             SourceExec\n\
             memory: 0 B of 3.0 GiB in use (0 B queued, 0 B kept, 0 B operators), at most 0 B\n"
        );
    }
}
