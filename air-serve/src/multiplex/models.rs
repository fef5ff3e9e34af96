//! What a replica holds: at most so many models, of which the least recently used goes when another one is asked for. Pure.
//!
//! A model that is being loaded has its place from the start, so the most is never exceeded, and is asked for once. One that somebody waits for, or
//! uses, does not go: else those who waited for a load might find it gone again.

use std::sync::Arc;

pub(super) struct Models<M, L> {
    most: usize,
    /// The least recently used first.
    places: Vec<Place<M, L>>,
    /// How many there have been.
    count: u64,
}

struct Place<M, L> {
    id: Arc<str>,
    number: u64,
    /// Requests that wait for it or use it.
    users: usize,
    state: State<M, L>,
}

enum State<M, L> {
    Loading(L),
    Ready(M),
}

/// What is to be done for a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look<M, L> {
    /// Ask this one.
    Ready(M),
    /// It is being loaded.
    Wait(L),
    /// Load it, once the one that has to go is gone.
    Load { outcome: L, evicted: Option<(Arc<str>, M)> },
}

impl<M: Clone, L: Clone> Models<M, L> {
    pub(super) fn new(most: usize) -> Self {
        Models { most, places: Vec::new(), count: 0 }
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.places.iter().position(|place| &*place.id == id)
    }

    /// Looks for a model on behalf of a request that uses it from now on, until it [leaves](Self::leave) the place of that number; `outcome` is what
    /// those wait for who ask for it while it is loaded, should it have to be. Nothing if every place is used by others.
    pub(super) fn look(&mut self, id: &Arc<str>, outcome: L) -> Option<(u64, Look<M, L>)> {
        if let Some(at) = self.position(id) {
            let mut place = self.places.remove(at);
            place.users += 1;
            let number = place.number;
            let look = match &place.state {
                State::Ready(model) => Look::Ready(model.clone()),
                State::Loading(outcome) => Look::Wait(outcome.clone()),
            };
            self.places.push(place);
            return Some((number, look));
        }
        let mut evicted = None;
        if self.places.len() >= self.most {
            let may_go = |place: &Place<M, L>| place.users == 0 && matches!(place.state, State::Ready(_));
            let place = self.places.remove(self.places.iter().position(may_go)?);
            if let State::Ready(model) = place.state {
                evicted = Some((place.id, model));
            }
        }
        self.count += 1;
        let state = State::Loading(outcome.clone());
        self.places.push(Place { id: Arc::clone(id), number: self.count, users: 1, state });
        Some((self.count, Look::Load { outcome, evicted }))
    }

    /// A request is over; says whether nobody uses that place any more.
    pub(super) fn leave(&mut self, number: u64) -> bool {
        let place = self.places.iter_mut().find(|place| place.number == number);
        place.is_some_and(|place| {
            place.users = place.users.saturating_sub(1);
            place.users == 0
        })
    }

    /// It has been loaded, or could not be.
    pub(super) fn loaded(&mut self, id: &str, model: Option<M>) {
        let Some(at) = self.position(id) else { return };
        match model {
            Some(model) => self.places[at].state = State::Ready(model),
            None => drop(self.places.remove(at)),
        }
    }

    /// Lets a model go, whoever uses it.
    pub(super) fn forget(&mut self, id: &str) -> Option<M> {
        match self.places.remove(self.position(id)?).state {
            State::Ready(model) => Some(model),
            State::Loading(_) => None,
        }
    }

    /// Those it holds, and loads.
    pub(super) fn ids(&self) -> Vec<Arc<str>> {
        self.places.iter().map(|place| Arc::clone(&place.id)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_least_recently_used_goes_unless_somebody_uses_it() {
        let mut models = Models::new(2);
        let id = Arc::<str>::from;
        let load = |number: u64, evicted: Option<(&str, u8)>| {
            Some((number, Look::Load { outcome: (), evicted: evicted.map(|(id, model)| (id.into(), model)) }))
        };
        assert_eq!(models.look(&id("a"), ()), load(1, None));
        assert_eq!(models.look(&id("a"), ()), Some((1, Look::Wait(()))));
        assert_eq!(models.look(&id("b"), ()), load(2, None));
        assert_eq!(models.look(&id("c"), ()), None);
        models.loaded("a", Some(1));
        models.loaded("b", None);
        assert_eq!(models.look(&id("c"), ()), load(3, None), "what could not be loaded has no place");
        models.loaded("c", Some(3));
        assert!(!models.leave(2), "it has no place any more");
        assert_eq!(models.look(&id("d"), ()), None, "those who waited have not used it yet");
        assert!(!models.leave(1) && models.leave(1) && models.leave(3));
        assert_eq!(models.look(&id("a"), ()), Some((1, Look::Ready(1))));
        assert_eq!(models.look(&id("b"), ()), load(4, Some(("c", 3))));
        assert_eq!((models.forget("a"), models.forget("a"), models.ids()), (Some(1), None, vec![id("b")]));
    }

    proptest! {
        /// Whatever is asked for: there are never more places than may be; each model is loaded once at a time; what goes was there, is
        /// used by nobody, and is asked for again only by loading it.
        #[test]
        fn never_more_than_may_be_and_none_twice(
            most in 1..5usize, events in prop::collection::vec((0..6u8, 0..7u8), 0..300)
        ) {
            let mut models = Models::new(most);
            // By id: whether it is ready, and who uses it.
            let mut places: BTreeMap<u8, (bool, Vec<u64>)> = BTreeMap::new();
            for (event, n) in events {
                let id: Arc<str> = n.to_string().into();
                match event {
                    0 => if let Some(place) = places.get_mut(&n).filter(|place| !place.0) {
                        place.0 = true;
                        models.loaded(&id, Some(n));
                    },
                    1 => if places.get(&n).is_some_and(|place| !place.0) {
                        models.loaded(&id, None);
                        for number in places.remove(&n).unwrap().1 {
                            prop_assert!(!models.leave(number));
                        }
                    },
                    2 | 3 => if let Some(number) = places.get_mut(&n).and_then(|place| place.1.pop()) {
                        prop_assert_eq!(models.leave(number), places[&n].1.is_empty());
                    },
                    _ => match models.look(&id, ()) {
                        None => {
                            prop_assert!(places.len() == most && !places.contains_key(&n));
                            prop_assert!(places.values().all(|(ready, users)| !ready || !users.is_empty()));
                        }
                        Some((number, Look::Load { evicted, .. })) => {
                            if let Some((_, gone)) = evicted {
                                let (ready, users) = places.remove(&gone).unwrap();
                                prop_assert!(ready && users.is_empty() && places.len() == most - 1);
                            }
                            prop_assert!(places.insert(n, (false, vec![number])).is_none());
                        }
                        Some((number, look)) => {
                            let place = places.get_mut(&n).unwrap();
                            prop_assert_eq!(look, if place.0 { Look::Ready(n) } else { Look::Wait(()) });
                            place.1.push(number);
                        }
                    },
                }
                prop_assert!(models.ids().len() <= most);
                prop_assert_eq!(models.ids().len(), places.len());
            }
        }
    }
}
