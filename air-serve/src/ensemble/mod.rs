//! Graphs of deployments, as a configuration file says them: steps in sequence, side by side, by a condition, by weight.
//!
//! | file | idea |
//! |---|---|
//! | this one | the graph as it is written, and what is wrong with it |
//! | `run` | the model made of it |
//! | `split` | turns by weight: pure |
//!
//! The terms are those of KServe's inference graphs (sequence, switch, splitter, ensemble). From Rust there is no need for them: an async model
//! says the same with `await`, `if` and `join`.

mod run;
mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub(crate) use run::{CallJson, JsonLine, deployment, json_target};

/// Deeper graphs, and larger ones, are refused.
const DEEPEST: usize = 16;
const LARGEST: usize = 256;

/// What stands for the input itself.
const INPUT: &str = "$input";

/// A step of a graph: what becomes of a JSON value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Step {
    /// A deployment answers it, by its name; `$input` is the value itself.
    Call(String),
    /// Several steps.
    Graph(Box<Graph>),
}

/// Several steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Graph {
    /// One after the other, each with the answer of the one before.
    Sequence(Vec<Step>),
    /// All at once; an object of their answers.
    Parallel(BTreeMap<String, Step>),
    /// The first whose condition holds.
    Switch(Vec<Case>),
    /// One of them, by weight.
    Split(Vec<Branch>),
}

/// One case of a switch. A case without a condition always holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Case {
    /// Where to look in the value, as a JSON pointer (RFC 6901): `/language`.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// What the number there must be above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// What the number there must be below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// What happens then.
    pub then: Step,
}

/// One branch of a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Branch {
    /// How often it is taken, beside the weights of the others.
    pub weight: f64,
    /// What happens then.
    pub then: Step,
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Step;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a deployment, or one of `sequence`, `parallel`, `switch`, `split`")
            }

            fn visit_str<E>(self, name: &str) -> Result<Step, E> {
                Ok(Step::Call(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Step, A::Error> {
                Graph::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(Step::Graph)
            }
        }
        from.deserialize_any(Read)
    }
}

impl Case {
    fn holds(&self, value: &Value) -> bool {
        let Some(pointer) = &self.pointer else { return true };
        let Some(there) = value.pointer(pointer) else { return false };
        let number = there.as_f64();
        self.equals.as_ref().is_none_or(|equals| equals == there)
            && self.above.is_none_or(|above| number.is_some_and(|number| number > above))
            && self.below.is_none_or(|below| number.is_some_and(|number| number < below))
    }

    fn is_conditional(&self) -> bool {
        self.equals.is_some() || self.above.is_some() || self.below.is_some()
    }
}

impl Step {
    /// Checks what can be seen in the graph alone.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let mut steps = 0;
        self.check(1, &mut steps)
    }

    fn check(&self, depth: usize, steps: &mut usize) -> Result<(), String> {
        *steps += 1;
        if depth > DEEPEST || *steps > LARGEST {
            return Err(format!("a graph may be {DEEPEST} deep and have {LARGEST} steps"));
        }
        let Step::Graph(graph) = self else { return self.check_name() };
        let inner: Vec<&Step> = match &**graph {
            Graph::Sequence(steps) => steps.iter().collect(),
            Graph::Parallel(steps) => steps.values().collect(),
            Graph::Switch(cases) => {
                for case in cases {
                    check_case(case)?;
                }
                cases.iter().map(|case| &case.then).collect()
            }
            Graph::Split(branches) => {
                let fits = |branch: &Branch| branch.weight.is_finite() && branch.weight > 0.0;
                if let Some(branch) = branches.iter().find(|branch| !fits(branch)) {
                    return Err(format!("a weight of a split is {}, it must be above 0", branch.weight));
                }
                branches.iter().map(|branch| &branch.then).collect()
            }
        };
        if inner.is_empty() {
            return Err("a sequence, parallel, switch or split has no steps".into());
        }
        inner.into_iter().try_for_each(|step| step.check(depth + 1, steps))
    }

    fn check_name(&self) -> Result<(), String> {
        match self {
            Step::Call(name) if name.is_empty() => Err("the name of a deployment is empty".into()),
            Step::Call(name) if name.starts_with('$') && name != INPUT => {
                Err(format!("`{name}` is no deployment; the input itself is `{INPUT}`"))
            }
            _ => Ok(()),
        }
    }

    /// The deployments that it calls.
    fn calls(&self) -> BTreeSet<&str> {
        match self {
            Step::Call(name) if name == INPUT => BTreeSet::new(),
            Step::Call(name) => [name.as_str()].into(),
            Step::Graph(graph) => {
                let inner: Vec<&Step> = match &**graph {
                    Graph::Sequence(steps) => steps.iter().collect(),
                    Graph::Parallel(steps) => steps.values().collect(),
                    Graph::Switch(cases) => cases.iter().map(|case| &case.then).collect(),
                    Graph::Split(branches) => branches.iter().map(|branch| &branch.then).collect(),
                };
                inner.into_iter().flat_map(Step::calls).collect()
            }
        }
    }
}

fn check_case(case: &Case) -> Result<(), String> {
    match &case.pointer {
        None if case.is_conditional() => {
            Err("a case of a switch has a condition and no `if`, which says where to look".into())
        }
        Some(pointer) if !pointer.is_empty() && !pointer.starts_with('/') => {
            Err(format!("`if: {pointer}` is no JSON pointer: it begins with /, as in /language"))
        }
        Some(_) if !case.is_conditional() => {
            Err("a case of a switch has an `if` and no condition: one of `equals`, `above`, `below`".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Step, String> {
        let step: Step = serde_json::from_value(value).map_err(|error| error.to_string())?;
        step.validate()?;
        Ok(step)
    }

    #[test]
    fn a_graph_is_read_and_written_and_knows_what_it_calls() {
        let graph = json!({"sequence": [
            "clean",
            {"switch": [
                {"if": "/language", "equals": "de", "then": "german"},
                {"if": "/length", "above": 3.0, "below": 9.0, "then": "short"},
                {"then": {"split": [{"weight": 9.0, "then": "a"}, {"weight": 1.0, "then": "b"}]}},
            ]},
            {"parallel": {"text": "$input", "label": "a"}},
        ]});
        let step = read(graph.clone()).unwrap();
        assert_eq!(step.calls().into_iter().collect::<Vec<_>>(), ["a", "b", "clean", "german", "short"]);
        assert_eq!(serde_json::to_value(&step).unwrap(), graph);
    }

    #[test]
    fn what_makes_no_sense_is_told_so() {
        let deep = (0..20).fold(json!("a"), |inner, _| json!({"sequence": [inner]}));
        let large = json!({"sequence": vec!["a"; 300]});
        for (graph, says) in [
            (json!(7), "the name of a deployment, or one of `sequence`"),
            (json!({"sequense": []}), "unknown variant `sequense`"),
            (json!({"sequence": []}), "has no steps"),
            (json!({"sequence": [""]}), "is empty"),
            (json!("$out"), "the input itself is `$input`"),
            (json!({"split": [{"weight": 0, "then": "a"}]}), "weight of a split is 0"),
            (json!({"split": [{"wieght": 1, "then": "a"}]}), "unknown field `wieght`"),
            (json!({"switch": [{"equals": 1, "then": "a"}]}), "no `if`"),
            (json!({"switch": [{"if": "/x", "then": "a"}]}), "no condition"),
            (json!({"switch": [{"if": "x", "equals": 1, "then": "a"}]}), "no JSON pointer"),
            (deep, "16 deep"),
            (large, "256 steps"),
        ] {
            let error = read(graph.clone()).unwrap_err();
            assert!(error.contains(says), "{graph}: {error}");
        }
    }

    #[test]
    fn a_case_holds_where_its_condition_does() {
        let case = |case: Value| serde_json::from_value::<Case>(case).unwrap();
        let value = json!({"language": "de", "score": 0.5});
        for (condition, holds) in [
            (json!({"then": "a"}), true),
            (json!({"if": "/language", "equals": "de", "then": "a"}), true),
            (json!({"if": "/language", "equals": "fr", "then": "a"}), false),
            (json!({"if": "/nothing", "equals": null, "then": "a"}), false),
            (json!({"if": "/score", "above": 0.4, "below": 0.6, "then": "a"}), true),
            (json!({"if": "/score", "above": 0.5, "then": "a"}), false),
            (json!({"if": "/language", "above": 0.5, "then": "a"}), false),
        ] {
            assert_eq!(case(condition.clone()).holds(&value), holds, "{condition}");
        }
    }
}
