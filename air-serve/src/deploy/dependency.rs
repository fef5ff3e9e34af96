//! Which deployments a deployment calls: that they are there, that the types fit, and in which order they start and end.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;

use super::handle::DeploymentHandle;
use crate::ensemble::CallJson;

/// From a handle in a model to the deployment it leads to, without the types.
pub trait Line: Send + Sync {
    /// The deployment's name.
    fn name(&self) -> &Arc<str>;
    /// Leads to that deployment from now on; if it is of other types it says what it expects.
    fn connect(&self, to: &Target) -> Result<(), String>;
}

/// A deployment that a line can lead to.
pub struct Target {
    /// Its `DeploymentHandle<In, Out>`.
    pub(crate) handle: Box<dyn Any>,
    /// The same by JSON, if it takes and gives that.
    pub(crate) json: Option<Arc<dyn CallJson>>,
}

impl<I: Send + 'static, O: Send + 'static> Line for DeploymentHandle<I, O> {
    fn name(&self) -> &Arc<str> {
        self.switch().name()
    }

    fn connect(&self, to: &Target) -> Result<(), String> {
        let (input, output) = (std::any::type_name::<I>(), std::any::type_name::<O>());
        let to = to.handle.downcast_ref::<Self>();
        let to =
            to.ok_or_else(|| format!("as one that takes {input} and gives {output}, which it does not"))?;
        self.switch().connect(to.switch());
        Ok(())
    }
}

/// Handles of deployments: one, or several in a tuple, an array or a vector.
pub trait Handles: Clone + Send + Sync + 'static {
    #[doc(hidden)]
    fn lines(&self, into: &mut Vec<Arc<dyn Line>>);
}

impl<I: Send + 'static, O: Send + 'static> Handles for DeploymentHandle<I, O> {
    fn lines(&self, into: &mut Vec<Arc<dyn Line>>) {
        into.push(Arc::new(self.clone()));
    }
}

impl<H: Handles> Handles for Vec<H> {
    fn lines(&self, into: &mut Vec<Arc<dyn Line>>) {
        for handle in self {
            handle.lines(into);
        }
    }
}

impl<H: Handles, const N: usize> Handles for [H; N] {
    fn lines(&self, into: &mut Vec<Arc<dyn Line>>) {
        for handle in self {
            handle.lines(into);
        }
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
                impl<$($name: Handles),+> Handles for ($($name,)+) {
            fn lines(&self, into: &mut Vec<Arc<dyn Line>>) {
                #[allow(non_snake_case)]
                let ($($name,)+) = self;
                $($name.lines(into);)+
            }
        }
    };
}
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);

/// Deployments, and which others each calls.
pub(crate) type Uses = [(Arc<str>, Vec<Arc<str>>)];

/// Names in the order to start them in, those together that may start together: each after all that it uses. Those that use each other in a
/// circle, and what uses them, come together at the end. Ends go the other way. Pure.
pub(crate) fn waves(all: &Uses) -> Vec<Vec<Arc<str>>> {
    let names: HashSet<&str> = all.iter().map(|(name, _)| &**name).collect();
    let mut started: HashSet<&str> = HashSet::new();
    let mut waves = Vec::new();
    while started.len() < names.len() {
        let waits = |name: &str, used: &str| used != name && names.contains(used) && !started.contains(used);
        let left = || all.iter().filter(|(name, _)| !started.contains(&**name));
        let mut next: Vec<_> =
            left().filter(|(name, uses)| !uses.iter().any(|used| waits(name, used))).collect();
        if next.is_empty() {
            next = left().collect();
        }
        waves.push(next.iter().map(|(name, _)| Arc::clone(name)).collect());
        started.extend(next.iter().map(|(name, _)| &**name));
    }
    waves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Vec<(Arc<str>, Vec<Arc<str>>)> {
        edges
            .iter()
            .map(|(name, uses)| ((*name).into(), uses.iter().map(|used| (*used).into()).collect()))
            .collect()
    }

    fn written(waves: &[Vec<Arc<str>>]) -> Vec<String> {
        waves.iter().map(|wave| wave.join(" ")).collect()
    }

    #[test]
    fn what_is_used_starts_first_and_circles_start_together() {
        let edges = graph(&[("c", &["a", "b"]), ("a", &[]), ("b", &["a"]), ("d", &["d", "elsewhere"])]);
        assert_eq!(written(&waves(&edges)), ["a d", "b", "c"]);
        let edges = graph(&[("a", &["b"]), ("b", &["a"]), ("c", &["a"]), ("d", &[])]);
        assert_eq!(written(&waves(&edges)), ["d", "a b c"]);
        assert!(waves(&[]).is_empty());
    }

    proptest! {
        /// Each is started once; where there is no circle it is started after all that it uses, and no later than it must.
        #[test]
        fn every_wave_has_all_that_it_uses_before_it(edges in prop::collection::vec(prop::collection::vec(0..12usize, 0..5), 0..12)) {
            // Edges lead to smaller numbers, so that there is no circle.
            let name = |n: usize| Arc::<str>::from(n.to_string());
            let uses = |at: usize, to: &[usize]| to.iter().filter(|to| **to < at).map(|to| name(*to)).collect::<Vec<_>>();
            let all: Vec<_> = edges.iter().enumerate().map(|(at, to)| (name(at), uses(at, to))).collect();
            let waves = waves(&all);
            prop_assert_eq!(waves.iter().map(Vec::len).sum::<usize>(), all.len());
            let wave_of = |name: &str| waves.iter().position(|wave| wave.iter().any(|other| &**other == name));
            for (name, uses) in &all {
                let latest = uses.iter().filter_map(|used| wave_of(used)).max();
                prop_assert_eq!(wave_of(name), Some(latest.map_or(0, |latest| latest + 1)));
            }
        }
    }
}
