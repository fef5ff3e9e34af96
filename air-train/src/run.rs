//! A run: attempts until one succeeds, is stopped, or too many have failed; and its reports, brought to who judges them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use air_core::report::Reporter;

use crate::failure::{Cause, Decision, Failure, FailurePolicy};
use crate::record::{OnReport, Record, Report};
use crate::{Result, RunConfig, TrainError, TrainResult};

/// Calls `attempt` until one is good or the run is stopped or given up.
pub(crate) fn attempts(
    run: &RunConfig,
    record: &Record,
    mut attempt: impl FnMut() -> Result<(), (usize, Cause)>,
) -> Result<TrainResult> {
    let mut policy = FailurePolicy::new(run.failure.max_failures);
    let mut failures = Vec::new();
    loop {
        record.rewind();
        let (rank, cause) = match attempt() {
            Err(failed) if !record.is_stopped() => failed,
            _ => return Ok(TrainResult::new(record, failures)),
        };
        let decision = policy.on_failure(record.latest().map(|checkpoint| checkpoint.step()));
        let failure = Failure { rank, cause, decision };
        tracing::warn!(run = run.name, %failure, "training failed");
        failures.push(failure);
        if decision == Decision::GiveUp {
            return Err(TrainError::Failed { run: run.name.clone(), failures });
        }
    }
}

/// Runs `fit` on a thread of its own and judges its reports here, where `reporter` lives.
pub(crate) fn reporting(
    reporter: &mut dyn Reporter,
    also: Option<OnReport>,
    fit: impl FnOnce(OnReport) -> Result<TrainResult> + Send,
) -> Result<TrainResult> {
    let (tell, told) = sync_channel::<Option<(Report, SyncSender<ControlFlow<()>>)>>(1);
    let ended = tell.clone();
    let on_report: OnReport = Arc::new(move |report| {
        if also.as_ref().is_some_and(|also| also(report).is_break()) {
            return ControlFlow::Break(());
        }
        let (answer, answered) = sync_channel(1);
        match tell.send(Some((report.clone(), answer))) {
            Ok(()) => answered.recv().unwrap_or(ControlFlow::Break(())),
            Err(_) => ControlFlow::Break(()),
        }
    });
    thread::scope(|scope| {
        let training = scope.spawn(move || {
            let result = fit(on_report);
            // Whoever listens stops listening, even if user code still keeps a handle of the run.
            let _ = ended.send(None);
            result
        });
        let mut refused = None;
        while let Ok(Some((report, answer))) = told.recv() {
            let flow = reporter.report(report.iteration, &report.metrics).unwrap_or_else(|source| {
                refused.get_or_insert(TrainError::Report { iteration: report.iteration, source });
                ControlFlow::Break(())
            });
            // A rank that is gone meanwhile needs no answer.
            let _ = answer.send(flow);
        }
        drop(told);
        let result = training.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        refused.map_or(Ok(result), Err)
    })
}
