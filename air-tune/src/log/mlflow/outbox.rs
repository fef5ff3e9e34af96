//! [`Outbox`]: what is still to be sent to an MLflow server, and what of it next. No clock, no thread, no I/O.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::TrialId;
use crate::controller::Status;
use crate::log::Event;
use crate::values::to_json;

/// Most metrics, and most parameters, that a server takes in one request.
const BATCH_METRICS: usize = 1000;
const BATCH_PARAMS: usize = 100;
/// Most runs that wait or are under way: what trials beyond that report is lost.
const MOST_RUNS: usize = 10_000;
/// Longest key and longest value of a parameter that a server takes, in bytes.
const LONGEST_KEY: usize = 250;
const LONGEST_VALUE: usize = 6000;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    /// Looks the experiment up.
    FindExperiment { name: String },
    /// Makes it, if there is none.
    CreateExperiment { name: String },
    /// Begins a run.
    CreateRun { trial: TrialId, body: Value },
    /// Says that an earlier run goes on.
    Reopen { trial: TrialId, body: Value },
    /// Sends so many of a run's parameters and metrics.
    LogBatch { trial: TrialId, params: usize, metrics: usize, body: Value },
    /// Ends a run.
    EndRun { trial: TrialId, body: Value },
}

/// What came of a request that got an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The experiment's, or the run's, identifier, where the request gives one.
    Done(Option<String>),
    /// There is no such experiment.
    Missing,
    /// The server will not take it, whenever it is sent.
    Refused,
}

#[derive(Debug, Clone, PartialEq)]
struct Metric {
    key: String,
    value: f64,
    /// Milliseconds since 1970.
    timestamp: u64,
    step: u64,
}

#[derive(Debug, Default)]
struct Run {
    id: Option<String>,
    /// Whether an earlier process began it, and whether the server is still to be told that it goes on.
    earlier: bool,
    reopen: bool,
    started: u64,
    params: VecDeque<(String, String)>,
    metrics: VecDeque<Metric>,
    end: Option<(&'static str, u64)>,
}

/// What was not sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unsent {
    /// Runs that were not begun, or not ended.
    pub runs: u64,
    /// Numbers.
    pub metrics: u64,
    /// Parameters.
    pub params: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    name: String,
    experiment: Option<String>,
    missing: bool,
    runs: BTreeMap<TrialId, Run>,
    /// Runs of an earlier process, by trial.
    known: BTreeMap<TrialId, String>,
    /// Numbers that wait, and most of them.
    waiting: usize,
    limit: usize,
    /// What will never be sent.
    lost: Unsent,
}

/// What MLflow takes as a name.
fn key(name: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || "_-. /:".contains(c);
    let mut name: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    cut(&mut name, LONGEST_KEY);
    name
}

fn cut(text: &mut String, longest: usize) {
    while text.len() > longest {
        text.pop();
    }
}

impl Outbox {
    /// For the experiment `name`, with room for `limit` numbers; `known` are runs of an earlier process, by trial.
    pub fn new(name: &str, limit: usize, known: BTreeMap<TrialId, String>) -> Self {
        Self {
            name: name.to_owned(),
            experiment: None,
            missing: false,
            runs: BTreeMap::new(),
            known,
            waiting: 0,
            limit,
            lost: Unsent::default(),
        }
    }

    /// Takes what happened at a time, in milliseconds since 1970. Numbers there is no room for are lost, and counted.
    pub fn take(&mut self, event: &Event, now: u64) {
        match event {
            Event::Started { trial, config, .. } => self.begin(*trial, config, now),
            Event::Changed { trial, config, iteration, .. } => {
                self.begin(*trial, config, now);
                // A parameter cannot be set twice: of a clone's, the numbers are metrics over its iterations.
                let numbers =
                    config.paths().into_iter().filter_map(|(path, value)| Some((path, value.as_f64()?)));
                for (path, value) in numbers.collect::<Vec<_>>() {
                    self.number(*trial, &format!("config/{path}"), value, *iteration, now);
                }
            }
            Event::Reported { trial, iteration, values, .. } => {
                for (name, value) in values.iter() {
                    self.number(*trial, name, value, *iteration, now);
                }
            }
            Event::Ended(result) => {
                let status = match result.status {
                    Status::Failed => "FAILED",
                    Status::Stopped => "KILLED",
                    _ => "FINISHED",
                };
                // One that an earlier process was told to stop has no start in this one.
                if self.known.contains_key(&result.trial) {
                    self.begin(result.trial, &result.config, now);
                }
                if let Some(run) = self.runs.get_mut(&result.trial) {
                    run.end = Some((status, now));
                }
            }
            Event::Requeued { .. } | Event::Paused { .. } => {}
        }
    }

    fn begin(&mut self, trial: TrialId, config: &crate::Config, now: u64) {
        if self.runs.contains_key(&trial) {
            return;
        }
        if self.runs.len() == MOST_RUNS {
            self.lost.runs += 1;
            return;
        }
        let known = &mut self.known;
        self.runs.entry(trial).or_insert_with(|| {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let param = |(path, value): (String, &Value)| {
                let mut value = text(value);
                cut(&mut value, LONGEST_VALUE);
                (key(&path), value)
            };
            let id = known.remove(&trial);
            Run {
                earlier: id.is_some(),
                reopen: id.is_some(),
                params: config.paths().into_iter().map(param).collect(),
                id,
                started: now,
                ..Run::default()
            }
        });
    }

    fn number(&mut self, trial: TrialId, name: &str, value: f64, step: u64, timestamp: u64) {
        if self.waiting == self.limit {
            self.lost.metrics += 1;
            return;
        }
        if let Some(run) = self.runs.get_mut(&trial) {
            run.metrics.push_back(Metric { key: key(name), value, timestamp, step });
            self.waiting += 1;
        }
    }

    /// The next request, if there is anything to send.
    pub fn next(&self) -> Option<Call> {
        // Whoever has ended comes first, so that it can be forgotten.
        let ended = self.runs.iter().find(|(_, run)| run.end.is_some());
        let (trial, run) = ended.or_else(|| {
            let due = |run: &Run| {
                run.id.is_none() || run.reopen || !run.params.is_empty() || !run.metrics.is_empty()
            };
            self.runs.iter().find(|(_, run)| due(run))
        })?;
        let trial = *trial;
        let Some(experiment) = &self.experiment else {
            let name = self.name.clone();
            return Some(if self.missing {
                Call::CreateExperiment { name }
            } else {
                Call::FindExperiment { name }
            });
        };
        let Some(id) = &run.id else {
            let body = json!({
                "experiment_id": experiment, "start_time": run.started, "run_name": format!("trial_{trial:05}"),
                "tags": [
                    {"key": "mlflow.source.name", "value": "air-tune"}, {"key": "air.trial", "value": trial.to_string()},
                ],
            });
            return Some(Call::CreateRun { trial, body });
        };
        if run.reopen {
            return Some(Call::Reopen { trial, body: json!({"run_id": id, "status": "RUNNING"}) });
        }
        if run.params.is_empty() && run.metrics.is_empty() {
            let (status, at) = run.end?;
            let body = json!({"run_id": id, "status": status, "end_time": at});
            return Some(Call::EndRun { trial, body });
        }
        let params: Vec<Value> = run
            .params
            .iter()
            .take(BATCH_PARAMS)
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
        // A thousand things in one request, of whatever kind. Parameters of an earlier process may be others, and are refused then: nothing is to be lost with them.
        let room = if run.earlier && !params.is_empty() { 0 } else { BATCH_METRICS - params.len() };
        let metrics: Vec<Value> = run
            .metrics
            .iter()
            .take(room)
            .map(|m| json!({"key": m.key, "value": to_json(m.value), "timestamp": m.timestamp, "step": m.step}))
            .collect();
        let counts = (params.len(), metrics.len());
        let body = json!({"run_id": id, "params": params, "metrics": metrics});
        Some(Call::LogBatch { trial, params: counts.0, metrics: counts.1, body })
    }

    /// The request is settled.
    pub fn settle(&mut self, call: &Call, answer: Answer) {
        match (call, answer) {
            (Call::FindExperiment { .. }, Answer::Missing) => self.missing = true,
            (Call::FindExperiment { .. } | Call::CreateExperiment { .. }, Answer::Done(id)) => {
                self.experiment = id;
                self.missing = false;
            }
            // Somebody else may have made it meanwhile.
            (Call::CreateExperiment { .. }, _) => self.missing = false,
            (Call::FindExperiment { .. }, Answer::Refused) => {}
            (Call::CreateRun { trial, .. }, Answer::Done(Some(id))) => {
                if let Some(run) = self.runs.get_mut(trial) {
                    run.id = Some(id);
                }
            }
            (Call::CreateRun { trial, .. }, _) => self.forget(*trial, true),
            (Call::Reopen { trial, .. }, Answer::Done(_)) => {
                if let Some(run) = self.runs.get_mut(trial) {
                    run.reopen = false;
                }
            }
            // It was deleted: the trial gets a new one.
            (Call::Reopen { trial, .. }, _) => {
                if let Some(run) = self.runs.get_mut(trial) {
                    (run.id, run.reopen, run.earlier) = (None, false, false);
                }
            }
            (Call::LogBatch { trial, params, metrics, .. }, answer) => {
                let Some(run) = self.runs.get_mut(trial) else { return };
                run.params.drain(..*params);
                run.metrics.drain(..*metrics);
                self.waiting -= metrics;
                if !matches!(answer, Answer::Done(_)) {
                    self.lost.params += *params as u64;
                    self.lost.metrics += *metrics as u64;
                }
            }
            (Call::EndRun { trial, .. }, answer) => self.forget(*trial, !matches!(answer, Answer::Done(_))),
        }
    }

    fn forget(&mut self, trial: TrialId, lost: bool) {
        let Some(run) = self.runs.remove(&trial) else { return };
        self.waiting -= run.metrics.len();
        if lost {
            self.lost.runs += 1;
            self.lost.params += run.params.len() as u64;
            self.lost.metrics += run.metrics.len() as u64;
        }
    }

    /// What was lost, and what waits.
    pub fn unsent(&self) -> Unsent {
        self.runs.values().fold(self.lost, |sum, run| Unsent {
            runs: sum.runs + u64::from(run.id.is_none() || run.end.is_some()),
            metrics: sum.metrics + run.metrics.len() as u64,
            params: sum.params + run.params.len() as u64,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::values::Values;
    use crate::{Config, TrialResult};

    fn started(trial: TrialId) -> Event {
        let config: Config = serde_json::from_value(json!({"lr": 0.1, "net": {"kind": "wide"}})).unwrap();
        Event::Started { trial, attempt: 1, config }
    }

    fn reported(trial: TrialId, iteration: u64, value: f64) -> Event {
        let values = Values::new(&[("loss", value)]).unwrap();
        Event::Reported { trial, iteration, value: Some(value), values, seconds: 0.0 }
    }

    fn ended(trial: TrialId, status: Status) -> Event {
        let end = crate::controller::End {
            status,
            value: Some(1.0),
            iterations: 1,
            seconds: 1.0,
            stop: None,
            cause: None,
        };
        let point = crate::space::Assignment::new();
        Event::Ended(TrialResult::new(trial, &point, end, 1, Values::default(), None))
    }

    /// Settles the next request as done; gives the request.
    fn sent(outbox: &mut Outbox, id: Option<&str>) -> Call {
        let call = outbox.next().unwrap();
        outbox.settle(&call, Answer::Done(id.map(str::to_owned)));
        call
    }

    fn outbox(limit: usize) -> Outbox {
        Outbox::new("mnist", limit, BTreeMap::new())
    }

    #[test]
    fn a_trial_is_a_run_with_its_parameters_numbers_and_end() {
        let mut outbox = outbox(100);
        assert!(outbox.next().is_none());
        outbox.take(&started(0), 5);
        outbox.take(&reported(0, 1, f64::NAN), 6);
        outbox.take(&reported(0, 2, 0.5), 7);
        outbox.take(&ended(0, Status::Complete), 8);
        let find = outbox.next().unwrap();
        assert_eq!(find, Call::FindExperiment { name: "mnist".into() });
        outbox.settle(&find, Answer::Missing);
        assert_eq!(sent(&mut outbox, Some("7")), Call::CreateExperiment { name: "mnist".into() });
        let Call::CreateRun { trial: 0, body } = sent(&mut outbox, Some("abc")) else { panic!() };
        assert_eq!((&body["experiment_id"], &body["start_time"]), (&json!("7"), &json!(5)));
        assert_eq!(body["run_name"], "trial_00000");
        let Call::LogBatch { body, .. } = sent(&mut outbox, None) else { panic!() };
        assert_eq!(
            body,
            json!({"run_id": "abc",
                "params": [{"key": "lr", "value": "0.1"}, {"key": "net.kind", "value": "wide"}],
                "metrics": [{"key": "loss", "value": "NaN", "timestamp": 6, "step": 1}, {"key": "loss", "value": 0.5, "timestamp": 7, "step": 2}]})
        );
        let Call::EndRun { body, .. } = sent(&mut outbox, None) else { panic!() };
        assert_eq!(body, json!({"run_id": "abc", "status": "FINISHED", "end_time": 8}));
        assert!(outbox.next().is_none() && outbox.runs.is_empty());
        assert_eq!(outbox.unsent(), Unsent::default());
    }

    #[test]
    fn batches_hold_a_thousand_and_what_there_is_no_room_for_is_counted() {
        let mut outbox = outbox(2500);
        outbox.take(&started(3), 0);
        for step in 1..=2600 {
            outbox.take(&reported(3, step, 1.0), step);
        }
        assert_eq!(outbox.unsent(), Unsent { runs: 1, metrics: 2600, params: 2 });
        sent(&mut outbox, Some("1"));
        sent(&mut outbox, Some("r"));
        let counts: Vec<(usize, usize)> = (0..3)
            .map(|_| match sent(&mut outbox, None) {
                Call::LogBatch { params, metrics, body, .. } => {
                    assert_eq!(body["metrics"].as_array().unwrap().len(), metrics);
                    (params, metrics)
                }
                call => panic!("{call:?}"),
            })
            .collect();
        assert_eq!(counts, [(2, 998), (0, 1000), (0, 502)]);
        assert!(outbox.next().is_none(), "it runs on");
        assert_eq!(outbox.unsent(), Unsent { runs: 0, metrics: 100, params: 0 });
        outbox.take(&reported(3, 9, 1.0), 9);
        assert!(matches!(outbox.next(), Some(Call::LogBatch { metrics: 1, .. })), "there is room again");
    }

    #[test]
    fn what_the_server_refuses_is_lost_and_the_rest_goes_on() {
        let mut outbox = outbox(10);
        for trial in 0..2 {
            outbox.take(&started(trial), 0);
            outbox.take(&reported(trial, 1, 1.0), 1);
        }
        sent(&mut outbox, Some("1"));
        let call = outbox.next().unwrap();
        assert!(matches!(call, Call::CreateRun { trial: 0, .. }));
        outbox.settle(&call, Answer::Refused);
        assert_eq!(outbox.unsent(), Unsent { runs: 2, metrics: 2, params: 4 });
        assert!(matches!(sent(&mut outbox, Some("r")), Call::CreateRun { trial: 1, .. }));
        let call = outbox.next().unwrap();
        outbox.settle(&call, Answer::Refused);
        assert_eq!((outbox.unsent(), outbox.waiting), (Unsent { runs: 1, metrics: 2, params: 4 }, 0));
        outbox.take(&ended(1, Status::Failed), 2);
        let Call::EndRun { body, .. } = sent(&mut outbox, None) else { panic!() };
        assert_eq!(body["status"], "FAILED");
    }

    #[test]
    fn a_run_of_an_earlier_process_goes_on_unless_it_is_gone() {
        let known = BTreeMap::from([(0, "old".to_owned()), (1, "gone".to_owned())]);
        let mut outbox = Outbox::new("mnist", 10, known);
        outbox.take(&started(0), 0);
        sent(&mut outbox, Some("1"));
        let Call::Reopen { body, .. } = sent(&mut outbox, None) else { panic!() };
        assert_eq!(body, json!({"run_id": "old", "status": "RUNNING"}));
        assert!(matches!(sent(&mut outbox, None), Call::LogBatch { params: 2, .. }));
        outbox.take(&started(1), 0);
        let call = outbox.next().unwrap();
        outbox.settle(&call, Answer::Refused);
        assert!(matches!(outbox.next(), Some(Call::CreateRun { trial: 1, .. })));
    }

    #[test]
    fn a_clones_numbers_are_metrics_and_names_are_what_the_server_takes() {
        let mut outbox = outbox(10);
        outbox.take(&started(0), 0);
        let config: Config = serde_json::from_value(json!({"lr": 0.2, "net": {"kind": "deep"}})).unwrap();
        outbox.take(&Event::Changed { trial: 0, iteration: 4, donor: 1, config }, 3);
        let metrics: Vec<_> = outbox.runs[&0].metrics.iter().collect();
        assert_eq!(metrics, [&Metric { key: "config/lr".into(), value: 0.2, timestamp: 3, step: 4 }]);
        assert_eq!(key("päth/to [x]"), "päth/to _x_");
        assert_eq!(key(&"ä".repeat(200)).len(), 250);
    }
}
