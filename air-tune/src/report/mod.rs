//! A report of an experiment: one HTML file with its charts as SVG, which needs nothing else.

mod chart;
mod fanova;
mod forest;
mod importance;

use std::fmt::Write as _;
use std::path::Path;

use chart::{Chart, Scale, colour, escape, parallel, short};
use fanova::Spread;

use crate::controller::Status;
use crate::error::{Result, TuneError};
use crate::result::{ResultGrid, TrialResult};
use crate::search::axes::Axes;
use crate::space::{Domain, Param};

/// Most trials that are drawn one by one: the newest, and always the best.
const DRAWN: usize = 2_000;
/// Most trials whose courses are drawn: the best and the newest.
const COURSES: usize = 60;
/// Most points of a course.
const POINTS: usize = 300;
/// Most parameters that are drawn: the most important ones.
const PARAMS: usize = 12;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:820px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#555}\
svg .label{font-size:12px;fill:#222}svg .grid{stroke:#e5e5e5}svg .axis{stroke:#999}table{border-collapse:collapse}\
td,th{text-align:left;padding:2px 14px 2px 0;font-variant-numeric:tabular-nums}.note{color:#666}";

impl ResultGrid {
    /// How much each parameter has to do with the metric, most first; the shares add up to one. Permutation importance of a random forest (Breiman, 2001) over
    /// the trials that ended with a value. All shares are zero where there are too few.
    pub fn importance(&self) -> Vec<(String, f64)> {
        self.shares(|_, rows, values| importance::importance(rows, values))
    }

    /// The share of the metric's variance over the space that each parameter explains by itself, most first: fANOVA (Hutter et al., 2014), over the trials that ended with a value. What the
    /// shares lack from one is what parameters do together. All are zero where there are too few trials.
    pub fn main_effects(&self) -> Vec<(String, f64)> {
        self.shares(|axes, rows, values| {
            let spread = |at| axes.axis(at).listed().map_or(Spread::Number, Spread::Listed);
            fanova::main_effects(rows, values, &(0..axes.len()).map(spread).collect::<Vec<_>>())
        })
    }

    fn shares(&self, of: impl Fn(&Axes, &[Vec<f64>], &[f64]) -> Vec<f64>) -> Vec<(String, f64)> {
        let Ok(axes) = Axes::new(self.space()) else { return Vec::new() };
        let trials: Vec<(&TrialResult, f64)> = self.valued().collect();
        let rows: Vec<Vec<f64>> =
            trials.iter().map(|(trial, _)| axes.encode(&self.assignment(trial))).collect();
        let values: Vec<f64> = trials.iter().map(|(_, value)| *value).collect();
        let shares = of(&axes, &rows, &values);
        let shares = if shares.is_empty() { vec![0.0; axes.len()] } else { shares };
        let mut named: Vec<(String, f64)> =
            (0..axes.len()).map(|at| axes.path(at).to_owned()).zip(shares).collect();
        named.sort_by(|a, b| b.1.total_cmp(&a.1));
        named
    }

    /// The report as one HTML document: history, importance, slices, parallel coordinates, learning curves where the experiment has a folder, and the Pareto front where
    /// several numbers count.
    ///
    /// # Errors
    /// [`TuneError::Storage`] if reports cannot be read.
    pub fn report(&self) -> Result<String> {
        let name = self.dir().and_then(Path::file_name).map_or("experiment".into(), |n| n.to_string_lossy());
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
            escape(&name)
        );
        self.summary(&mut page);
        let importance = self.importance();
        if let Some(front) = self.front() {
            section(
                &mut page,
                "Pareto front",
                "Complete trials; those that no other beats in everything are dark.",
                &front,
            );
        }
        section(
            &mut page,
            "History",
            "Each dot is a trial, the line is the best so far.",
            &self.course_of_best(),
        );
        if importance.iter().any(|(_, share)| *share > 0.0) {
            let note =
                "How much worse a random forest tells the metric once a parameter's values are shuffled.";
            section(&mut page, "Importance of parameters", note, &bars(&importance));
        }
        let effects = self.main_effects();
        if effects.iter().any(|(_, share)| *share > 0.0) {
            let note = "The share of the metric's variance over the whole space that a parameter explains by itself (fANOVA); what is left of one, parameters do together.";
            section(&mut page, "Main effects", note, &bars(&effects));
        }
        let params: Vec<&Param> =
            importance.iter().take(PARAMS).filter_map(|(path, _)| self.space().get(path)).collect();
        if params.len() > 1 {
            let note = "Each line is a trial, dark ones are good. A parameter that a trial lacks lies below its axis.";
            section(&mut page, "Parallel coordinates", note, &self.coordinates(&params));
        }
        if let Some(curves) = self.curves()? {
            section(
                &mut page,
                "Learning curves",
                "The metric over iterations, dark ones ended well.",
                &curves,
            );
        }
        if !params.is_empty() {
            page.push_str("<h2>Slices</h2>\n<p class=\"note\">The metric over each parameter; later trials are darker.</p>\n");
            for param in params {
                page.push_str(&self.slice(param));
                page.push('\n');
            }
        }
        page.push_str("</body></html>\n");
        Ok(page)
    }

    /// Writes the [`report`](Self::report) to a file.
    ///
    /// # Errors
    /// As [`report`](Self::report), and [`TuneError::Io`] if the file cannot be written.
    pub fn write_report(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.report()?).map_err(TuneError::io(path))
    }

    /// Trials that ended with a finite value.
    fn valued(&self) -> impl Iterator<Item = (&TrialResult, f64)> {
        let over = self.iter().filter(|trial| matches!(trial.status, Status::Complete | Status::Stopped));
        over.filter_map(|trial| trial.value.filter(|value| value.is_finite()).map(|value| (trial, value)))
    }

    /// The newest of them, and the best.
    fn drawn(&self) -> Vec<(&TrialResult, f64)> {
        let all: Vec<(&TrialResult, f64)> = self.valued().collect();
        let from = all.len().saturating_sub(DRAWN);
        let best = self.best().ok().and_then(|best| all[..from].iter().find(|(t, _)| t.trial == best.trial));
        best.into_iter().chain(&all[from..]).copied().collect()
    }

    /// The colour of each value by its place among all, and the scale of the metric.
    fn palette(&self, values: &[f64]) -> impl Fn(f64) -> String + use<> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let max = self.mode() == crate::search::Mode::Max;
        move |value| {
            let below = sorted.partition_point(|other| *other < value) as f64;
            let place = below / (sorted.len().max(2) - 1) as f64;
            colour(if max { 1.0 - place } else { place })
        }
    }

    fn summary(&self, page: &mut String) {
        let counts: Vec<String> = self.counts().iter().map(|(status, n)| format!("{n} {status}")).collect();
        let _ = writeln!(page, "<p>{} trials: {}.</p>", self.len(), escape(&counts.join(", ")));
        let Ok(best) = self.best() else { return };
        let value = best.value.map(short).unwrap_or_default();
        let metric = escape(self.metric());
        let _ = writeln!(
            page,
            "<p>Best: trial {}, {metric} {value} after {} iterations.</p>",
            best.trial, best.iterations
        );
        page.push_str("<table>");
        for (path, value) in best.config.paths() {
            let _ =
                write!(page, "<tr><th>{}</th><td>{}</td></tr>", escape(&path), escape(&value.to_string()));
        }
        page.push_str("</table>\n");
    }

    fn course_of_best(&self) -> String {
        let all: Vec<(&TrialResult, f64)> = self.valued().collect();
        let drawn = self.drawn();
        let mut best: Vec<(f64, f64)> = Vec::new();
        for (trial, value) in &all {
            if best.last().is_none_or(|(_, so_far)| self.mode().better(*value, *so_far)) {
                // Upright steps: the last best reaches to here.
                best.extend(best.last().map(|(_, so_far)| (trial.trial as f64, *so_far)));
                best.push((trial.trial as f64, *value));
            }
        }
        let last = all.last().map(|(trial, _)| trial.trial as f64);
        best.extend(last.zip(best.last().map(|(_, value)| *value)));
        let x = Scale::over("trial", all.iter().map(|(trial, _)| trial.trial as f64), false);
        let y = self.metric_scale(&all);
        let mut chart = Chart::new(x, y);
        for (trial, value) in drawn {
            let colour = if trial.status == Status::Stopped { "#bbb" } else { "#6a8fc0" };
            chart.dot(trial.trial as f64, value, colour, &format!("trial {}: {value}", trial.trial));
        }
        chart.line(best.into_iter(), "#c0392b", 2.0, "best so far");
        chart.svg()
    }

    /// The scale of the metric, in logarithms where it covers more than three decades.
    fn metric_scale(&self, trials: &[(&TrialResult, f64)]) -> Scale {
        let values = || trials.iter().map(|(_, value)| *value);
        let (low, high) =
            values().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        Scale::over(self.metric(), values(), low > 0.0 && high > 1e3 * low)
    }

    fn front(&self) -> Option<String> {
        let [first, second, ..] = self.objectives() else { return None };
        let front: Vec<u64> = self.pareto_front().iter().map(|trial| trial.trial).collect();
        let points: Vec<(u64, Vec<f64>)> = self
            .iter()
            .filter(|trial| trial.status == Status::Complete)
            .filter_map(|trial| self.values(trial).map(|values| (trial.trial, values)))
            .collect();
        let scale =
            |label: &str, at: usize| Scale::over(label, points.iter().map(move |(_, v)| v[at]), false);
        let mut chart = Chart::new(scale(&first.metric, 0), scale(&second.metric, 1));
        let newest = points.len().saturating_sub(DRAWN);
        for (at, (trial, values)) in points.iter().enumerate() {
            let on_front = front.binary_search(trial).is_ok();
            if on_front || at >= newest {
                let colour = if on_front { "#1f4e8c" } else { "#ccc" };
                chart.dot(values[0], values[1], colour, &format!("trial {trial}: {values:?}"));
            }
        }
        Some(chart.svg())
    }

    fn scale_of(
        param: &Param,
        trials: &[(&TrialResult, f64)],
    ) -> (Scale, impl Fn(&TrialResult) -> f64 + use<>) {
        let (path, domain) = (param.path.clone(), param.domain.clone());
        let number = move |trial: &TrialResult| match (&domain, trial.config.get(&path)) {
            (Domain::Grid { values } | Domain::Choice { values }, Some(value)) => {
                values.iter().position(|other| other == value).map_or(f64::NAN, |at| at as f64)
            }
            (_, Some(value)) => value.as_f64().unwrap_or(f64::NAN),
            (_, None) => f64::NAN,
        };
        let scale = match &param.domain {
            Domain::Grid { values } | Domain::Choice { values } => {
                let text = |value: &serde_json::Value| {
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                };
                Scale::named(&param.path, values.iter().map(text).collect())
            }
            domain => {
                let log = matches!(domain, Domain::Float { log: true, .. } | Domain::Int { log: true, .. });
                Scale::over(&param.path, trials.iter().map(|(trial, _)| number(trial)), log)
            }
        };
        (scale, number)
    }

    fn coordinates(&self, params: &[&Param]) -> String {
        let trials = self.drawn();
        let values: Vec<f64> = trials.iter().map(|(_, value)| *value).collect();
        let palette = self.palette(&values);
        let (mut scales, mut readers) = (vec![self.metric_scale(&trials)], Vec::new());
        for param in params {
            let (scale, number) = Self::scale_of(param, &trials);
            scales.push(scale);
            readers.push(number);
        }
        // The best come last, on top.
        let mut ordered = trials;
        ordered.sort_by(|(_, a), (_, b)| self.mode().better(*a, *b).cmp(&self.mode().better(*b, *a)));
        let rows: Vec<(Vec<f64>, String, String)> = ordered
            .into_iter()
            .map(|(trial, value)| {
                let row = std::iter::once(value).chain(readers.iter().map(|number| number(trial))).collect();
                (row, palette(value), format!("trial {}: {value}", trial.trial))
            })
            .collect();
        parallel(&scales, &rows)
    }

    fn slice(&self, param: &Param) -> String {
        let trials = self.drawn();
        let (scale, number) = Self::scale_of(param, &trials);
        let mut chart = Chart::new(scale, self.metric_scale(&trials));
        let last = trials.last().map_or(1.0, |(trial, _)| trial.trial.max(1) as f64);
        for (trial, value) in &trials {
            let shade = colour(1.0 - trial.trial as f64 / last);
            chart.dot(number(trial), *value, &shade, &format!("trial {}: {value}", trial.trial));
        }
        chart.svg()
    }

    /// The metric over iterations, of the best and the newest trials; nothing where no trial reported twice.
    fn curves(&self) -> Result<Option<String>> {
        if self.dir().is_none() || self.iter().all(|trial| trial.iterations < 2) {
            return Ok(None);
        }
        let mut trials: Vec<(&TrialResult, f64)> = self.valued().collect();
        trials.sort_by(|(a, x), (b, y)| {
            self.mode().better(*y, *x).cmp(&self.mode().better(*x, *y)).then(b.trial.cmp(&a.trial))
        });
        let half = COURSES / 2;
        if trials.len() > COURSES {
            let mut rest = trials.split_off(half);
            rest.sort_by_key(|(trial, _)| std::cmp::Reverse(trial.trial));
            trials.extend(rest.into_iter().take(half));
        }
        let values: Vec<f64> = trials.iter().map(|(_, value)| *value).collect();
        let palette = self.palette(&values);
        let mut courses = Vec::new();
        for (trial, value) in &trials {
            let reports = self.history(trial.trial)?;
            let every = reports.len().div_ceil(POINTS).max(1);
            let last = reports.len().saturating_sub(1);
            let course: Vec<(f64, f64)> = reports
                .iter()
                .enumerate()
                .filter(|(at, _)| at % every == 0 || *at == last)
                .filter_map(|(_, report)| Some((report.iteration as f64, report.values.get(self.metric())?)))
                .collect();
            courses.push((trial.trial, palette(*value), course));
        }
        let all = || courses.iter().flat_map(|(_, _, course)| course.iter().copied());
        let positive = all().all(|(_, y)| y > 0.0 || y.is_nan());
        let (low, high) = all()
            .filter(|(_, y)| y.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, y)| (low.min(y), high.max(y)));
        let x = Scale::over("iteration", all().map(|(x, _)| x), false);
        let y = Scale::over(self.metric(), all().map(|(_, y)| y), positive && high > 1e3 * low);
        let mut chart = Chart::new(x, y);
        // The best are drawn last.
        for (trial, colour, course) in courses.into_iter().rev() {
            chart.line(course.into_iter(), &colour, 1.2, &format!("trial {trial}"));
        }
        Ok(Some(chart.svg()))
    }
}

fn section(page: &mut String, title: &str, note: &str, svg: &str) {
    let _ = writeln!(page, "<h2>{title}</h2>\n<p class=\"note\">{note}</p>\n{svg}");
}

fn bars(importance: &[(String, f64)]) -> String {
    let shown: Vec<&(String, f64)> = importance.iter().take(PARAMS).collect();
    // The most important is on top.
    let names: Vec<String> = shown.iter().rev().map(|(path, _)| path.clone()).collect();
    let x = Scale::over("share", [0.0, shown.first().map_or(1.0, |(_, share)| *share)].into_iter(), false);
    let mut chart = Chart::new(x, Scale::named("parameter", names));
    for (at, (path, share)) in shown.iter().rev().enumerate() {
        chart.bar(*share, at as f64, "#6a8fc0", &format!("{path}: {share:.3}"));
    }
    chart.svg()
}
