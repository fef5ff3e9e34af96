//! One node: what it has, what is free, and which devices a request would get.

use super::amount::Amount;
use super::request::{Demand, Plain, Resources};

/// What of one device can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The device's index.
    pub(super) device: usize,
    pub(super) total: Amount,
    pub(super) free: Amount,
}

/// A node and what of it is free. A process is one node; a placement group's bundle is one to whoever works within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    total: Plain,
    free: Plain,
    pub(super) slots: Vec<Slot>,
}

/// What a request got of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) node: usize,
    pub(super) demand: Demand,
    /// The indices of its devices; of a share, one.
    pub(super) devices: Vec<usize>,
}

impl Node {
    /// A machine with this much, whose devices are numbered from 0.
    pub(super) fn machine(has: &Demand) -> Self {
        let devices = has.gpu.as_whole().unwrap_or(0);
        let slot = |device| Slot { device, total: Amount::ONE, free: Amount::ONE };
        Self { total: has.plain.clone(), free: has.plain.clone(), slots: (0..devices).map(slot).collect() }
    }

    /// What was granted, to be given on in smaller parts.
    pub(super) fn bundle(grant: &Grant) -> Self {
        let share = grant.demand.gpu.min(Amount::ONE);
        let slot = |&device| Slot { device, total: share, free: share };
        let plain = &grant.demand.plain;
        Self { total: plain.clone(), free: plain.clone(), slots: grant.devices.iter().map(slot).collect() }
    }

    /// The same node when nothing of it is taken.
    pub(super) fn emptied(&self) -> Self {
        let slots = self.slots.iter().map(|slot| Slot { free: slot.total, ..slot.clone() }).collect();
        Self { total: self.total.clone(), free: self.total.clone(), slots }
    }

    /// The devices the request could get now: nothing if it does not fit, otherwise every choice that makes a difference, the one that
    /// leaves most to others first. Untouched devices are all alike, and so are devices with the same share left.
    pub(super) fn choices(&self, demand: &Demand) -> Vec<Vec<usize>> {
        if !self.free.covers(&demand.plain) {
            return Vec::new();
        }
        if demand.gpu.is_zero() {
            return vec![Vec::new()];
        }
        if demand.gpu >= Amount::ONE {
            let wanted = demand.gpu.as_whole().unwrap_or(usize::MAX);
            let untouched = self.slots.iter().filter(|slot| slot.free == Amount::ONE);
            let devices: Vec<usize> = untouched.map(|slot| slot.device).take(wanted).collect();
            return if devices.len() == wanted { vec![devices] } else { Vec::new() };
        }
        let mut fitting: Vec<&Slot> = self.slots.iter().filter(|slot| slot.free >= demand.gpu).collect();
        // The fullest first, so that whole devices stay whole.
        fitting.sort_by_key(|slot| (slot.free, slot.device));
        fitting.dedup_by_key(|slot| slot.free);
        fitting.into_iter().map(|slot| vec![slot.device]).collect()
    }

    /// As [`choices`](Self::choices), the first only.
    pub(super) fn choice(&self, demand: &Demand) -> Option<Vec<usize>> {
        if demand.gpu.is_zero() {
            return self.free.covers(&demand.plain).then(Vec::new);
        }
        self.choices(demand).into_iter().next()
    }

    pub(super) fn take(&mut self, demand: &Demand, devices: &[usize]) {
        self.free.sub(&demand.plain);
        self.each_slot(demand, devices, |slot, share| slot.free = slot.free.minus(share));
    }

    pub(super) fn put_back(&mut self, demand: &Demand, devices: &[usize]) {
        self.free.add(&demand.plain);
        self.each_slot(demand, devices, |slot, share| slot.free = slot.free.plus(share));
    }

    fn each_slot(&mut self, demand: &Demand, devices: &[usize], change: impl Fn(&mut Slot, Amount)) {
        let share = demand.gpu.min(Amount::ONE);
        for slot in self.slots.iter_mut().filter(|slot| devices.contains(&slot.device)) {
            change(slot, share);
        }
    }

    pub(super) fn total(&self) -> Demand {
        let gpu = self.slots.iter().fold(Amount::ZERO, |sum, slot| sum.plus(slot.total));
        Demand { gpu, plain: self.total.clone() }
    }

    pub(super) fn free(&self) -> Demand {
        let gpu = self.slots.iter().fold(Amount::ZERO, |sum, slot| sum.plus(slot.free));
        Demand { gpu, plain: self.free.clone() }
    }

    /// What there is too little of for the request, as a phrase; nothing where it fits.
    pub(super) fn lacks(&self, demand: &Demand) -> Option<String> {
        let mut lacking = Vec::new();
        let free = self.free();
        let mut compare = |kind: &str, free: Amount, total: Amount, wanted: Amount| {
            if free < wanted {
                lacking.push(format!("{} of {} {kind} free", free.get(), total.get()));
            }
        };
        compare("cpu", free.plain.cpu, self.total.cpu, demand.plain.cpu);
        compare("gpu", free.gpu, self.total().gpu, demand.gpu);
        for (kind, amount) in &demand.plain.custom {
            compare(kind, free.plain.of(kind), self.total.of(kind), *amount);
        }
        if free.plain.memory_bytes < demand.plain.memory_bytes {
            let memory = |memory_bytes| Resources { memory_bytes, ..Resources::default() };
            let (free, total) = (memory(free.plain.memory_bytes), memory(self.total.memory_bytes));
            lacking.push(format!("{free} free of {total}"));
        }
        if lacking.is_empty() && self.choice(demand).is_none() {
            let (gpu, free) = (demand.gpu.get(), free.gpu.get());
            lacking.push(if demand.gpu >= Amount::ONE {
                format!("{free} gpu free, but not {gpu} untouched devices")
            } else {
                format!("{free} gpu free, but not {gpu} on one device")
            });
        }
        (!lacking.is_empty()).then(|| lacking.join(", "))
    }
}
