//! [`Ledger`]: which values are in memory, and which of them goes to disk next. Pure: no memory, disk or clock (A4).

use std::collections::{BTreeMap, HashMap};

/// The number of a value.
pub(super) type Id = u64;

/// Decides for one store.
///
/// Of the values in memory that nobody holds, the one used longest ago goes first, until the rest is within the budget. A value that
/// is held never goes, even where that exceeds the budget.
#[derive(Debug)]
pub(super) struct Ledger {
    budget_bytes: usize,
    in_memory_bytes: usize,
    spilled_bytes: usize,
    /// What is in memory still, while it is being written.
    leaving_bytes: usize,
    tick: u64,
    entries: HashMap<Id, Entry>,
    /// What may go, by when it was used last.
    idle: BTreeMap<u64, Id>,
}

#[derive(Debug)]
struct Entry {
    bytes: usize,
    pins: usize,
    used: u64,
    /// Whether it is in memory; if not, there is a file.
    resident: bool,
    leaving: bool,
}

impl Entry {
    fn in_memory(&self) -> bool {
        // One that is held but not resident is being read back.
        self.resident || self.pins > 0
    }
}

impl Ledger {
    pub(super) fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            in_memory_bytes: 0,
            spilled_bytes: 0,
            leaving_bytes: 0,
            tick: 0,
            entries: HashMap::new(),
            idle: BTreeMap::new(),
        }
    }

    pub(super) fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// Bytes in memory, those being written or read included.
    pub(super) fn in_memory_bytes(&self) -> usize {
        self.in_memory_bytes
    }

    /// Bytes of the values on disk.
    pub(super) fn spilled_bytes(&self) -> usize {
        self.spilled_bytes
    }

    /// How many values are in memory, on disk, and held.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let count = |which: fn(&Entry) -> bool| self.entries.values().filter(|entry| which(entry)).count();
        (count(Entry::in_memory), count(|entry| !entry.resident), count(|entry| entry.pins > 0))
    }

    /// A new value is in memory.
    pub(super) fn admit(&mut self, id: Id, bytes: usize) {
        self.tick += 1;
        self.entries.insert(id, Entry { bytes, pins: 0, used: self.tick, resident: true, leaving: false });
        self.idle.insert(self.tick, id);
        self.in_memory_bytes += bytes;
    }

    /// Somebody uses the value and holds it. Whether it is in memory: if not, it must be read back.
    pub(super) fn pin(&mut self, id: Id) -> bool {
        self.change(id, |entry, tick| {
            entry.pins += 1;
            entry.used = tick;
        });
        self.entries.get(&id).is_some_and(|entry| entry.resident)
    }

    /// One holder less.
    pub(super) fn unpin(&mut self, id: Id) {
        self.change(id, |entry, _| entry.pins = entry.pins.saturating_sub(1));
    }

    /// It was read back and its file is gone.
    pub(super) fn restored(&mut self, id: Id) {
        self.change(id, |entry, _| entry.resident = true);
    }

    /// The value to write to disk next, if one must go. Say [`spilled`](Self::spilled) or [`stays`](Self::stays) of it.
    pub(super) fn victim(&mut self) -> Option<Id> {
        if self.in_memory_bytes - self.leaving_bytes <= self.budget_bytes {
            return None;
        }
        let id = *self.idle.first_key_value()?.1;
        self.change(id, |entry, _| entry.leaving = true);
        Some(id)
    }

    /// A victim has been written. Whether it goes: not if it was used or dropped meanwhile.
    pub(super) fn spilled(&mut self, id: Id) -> bool {
        let goes = self.entries.get(&id).is_some_and(|entry| entry.pins == 0);
        self.change(id, |entry, _| {
            entry.leaving = false;
            entry.resident = !goes;
        });
        goes
    }

    /// A victim could not be written.
    pub(super) fn stays(&mut self, id: Id) {
        self.change(id, |entry, _| entry.leaving = false);
    }

    /// The last handle is gone.
    pub(super) fn remove(&mut self, id: Id) {
        if let Some(entry) = self.entries.remove(&id) {
            self.count(&entry, id, false);
        }
    }

    fn change(&mut self, id: Id, change: impl FnOnce(&mut Entry, u64)) {
        let Some(mut entry) = self.entries.remove(&id) else { return };
        self.count(&entry, id, false);
        self.tick += 1;
        change(&mut entry, self.tick);
        self.count(&entry, id, true);
        self.entries.insert(id, entry);
    }

    /// Takes an entry into the sums, or out of them.
    fn count(&mut self, entry: &Entry, id: Id, into: bool) {
        let add = |sum: &mut usize, counts: bool| match (counts, into) {
            (true, true) => *sum += entry.bytes,
            (true, false) => *sum -= entry.bytes,
            (false, _) => {}
        };
        add(&mut self.in_memory_bytes, entry.in_memory());
        add(&mut self.spilled_bytes, !entry.resident);
        add(&mut self.leaving_bytes, entry.leaving && entry.pins == 0);
        if entry.resident && entry.pins == 0 && !entry.leaving {
            if into {
                self.idle.insert(entry.used, id);
            } else {
                self.idle.remove(&entry.used);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut ledger = Ledger::new(25);
        (1..=3).for_each(|id| ledger.admit(id, 10));
        ledger.pin(1);
        ledger.unpin(1);
        assert_eq!(ledger.victim(), Some(2));
        assert_eq!(ledger.victim(), None, "what is being written is as good as gone");
        assert!(ledger.spilled(2));
        assert_eq!((ledger.in_memory_bytes(), ledger.spilled_bytes()), (20, 10));
        assert!(!ledger.pin(2), "it must be read back");
        assert_eq!((ledger.in_memory_bytes(), ledger.spilled_bytes()), (30, 10));
        assert_eq!(ledger.victim(), Some(3));
        ledger.restored(2);
        assert_eq!((ledger.in_memory_bytes(), ledger.spilled_bytes()), (30, 0));
    }

    #[test]
    fn one_that_is_used_while_it_is_written_stays() {
        let mut ledger = Ledger::new(0);
        ledger.admit(1, 10);
        assert_eq!(ledger.victim(), Some(1));
        assert!(ledger.pin(1));
        assert!(!ledger.spilled(1));
        assert_eq!(ledger.victim(), None, "it is held");
        ledger.unpin(1);
        assert_eq!(ledger.victim(), Some(1));
        ledger.stays(1);
        assert_eq!(ledger.victim(), Some(1), "it may be tried again");
    }

    /// What the ledger should say, found by looking at everything.
    #[derive(Default)]
    struct Oracle {
        values: Vec<Model>,
        time: usize,
    }

    #[derive(Clone)]
    struct Model {
        id: Id,
        bytes: usize,
        pins: usize,
        used: usize,
        resident: bool,
        leaving: bool,
    }

    impl Oracle {
        fn get(&mut self, id: Id) -> Option<&mut Model> {
            self.values.iter_mut().find(|value| value.id == id)
        }

        fn sum(&self, which: impl Fn(&Model) -> bool) -> usize {
            self.values.iter().filter(|value| which(value)).map(|value| value.bytes).sum()
        }

        fn victim(&self, budget: usize) -> Option<Id> {
            let staying = self.sum(|v| (v.resident || v.pins > 0) && !(v.leaving && v.pins == 0));
            let idle = self.values.iter().filter(|v| v.resident && v.pins == 0 && !v.leaving);
            if staying > budget { idle.min_by_key(|v| v.used).map(|v| v.id) } else { None }
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_looking_at_everything(
            budget in 0..60_usize,
            steps in prop::collection::vec((0..7_u8, 0..6_u64, 1..20_usize), 1..120),
        ) {
            let mut ledger = Ledger::new(budget);
            let mut oracle = Oracle::default();
            for (step, id, bytes) in steps {
                oracle.time += 1;
                let time = oracle.time;
                let known = oracle.get(id).cloned();
                match (step, known) {
                    (0, None) => {
                        ledger.admit(id, bytes);
                        oracle.values.push(Model { id, bytes, pins: 0, used: time, resident: true, leaving: false });
                    }
                    (1, Some(value)) => {
                        prop_assert_eq!(ledger.pin(id), value.resident);
                        if let Some(value) = oracle.get(id) {
                            value.pins += 1;
                            value.used = time;
                        }
                    }
                    (2, Some(value)) if value.pins > 0 => {
                        ledger.unpin(id);
                        if let Some(value) = oracle.get(id) {
                            value.pins -= 1;
                        }
                    }
                    (3, _) => {
                        let victim = ledger.victim();
                        prop_assert_eq!(victim, oracle.victim(budget));
                        if let Some(value) = victim.and_then(|id| oracle.get(id)) {
                            value.leaving = true;
                        }
                    }
                    (4, Some(value)) if value.leaving => {
                        prop_assert_eq!(ledger.spilled(id), value.pins == 0);
                        if let Some(value) = oracle.get(id) {
                            value.leaving = false;
                            value.resident = value.pins > 0;
                        }
                    }
                    (5, Some(value)) if !value.resident && value.pins > 0 => {
                        ledger.restored(id);
                        if let Some(value) = oracle.get(id) {
                            value.resident = true;
                        }
                    }
                    (6, Some(_)) => {
                        ledger.remove(id);
                        oracle.values.retain(|value| value.id != id);
                    }
                    _ => {}
                }
                prop_assert_eq!(ledger.in_memory_bytes(), oracle.sum(|v| v.resident || v.pins > 0));
                prop_assert_eq!(ledger.spilled_bytes(), oracle.sum(|v| !v.resident));
            }
            // When every victim is written at once, only what is held is left above the budget.
            while let Some(victim) = ledger.victim() {
                prop_assert!(ledger.spilled(victim));
            }
            let held = ledger.entries.values().filter(|entry| entry.pins > 0).map(|entry| entry.bytes).sum();
            prop_assert!(ledger.in_memory_bytes() - ledger.leaving_bytes <= budget.max(held));
        }
    }
}
