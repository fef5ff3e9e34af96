//! The ledger and the placement of bundles, against an oracle that tries everything.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::amount::Amount;
use super::ledger::{Ask, Ledger};
use super::node::{Grant, Node};
use super::place::Placement;
use super::request::{Demand, Resources};

const RULES: [Placement; 4] =
    [Placement::Pack, Placement::Spread, Placement::StrictPack, Placement::StrictSpread];

fn demand(resources: &Resources) -> Demand {
    Demand::new(resources).unwrap()
}

fn ledger(nodes: &[Resources]) -> Ledger {
    Ledger::new(nodes.iter().map(|has| Node::machine(&demand(has))).collect())
}

fn one(resources: &Resources) -> Ask {
    Ask::One { demand: demand(resources), node: None }
}

fn gang(rule: Placement, bundles: &[Resources]) -> Ask {
    Ask::Gang { rule, bundles: bundles.iter().map(demand).collect() }
}

fn gpu(share: f64) -> Resources {
    Resources::new().gpu(share)
}

/// What is free, in the oracle's own terms: processors and licences in parts, bytes, and each device in parts.
#[derive(Clone)]
struct Free {
    plain: [u64; 3],
    devices: Vec<u64>,
}

fn parts(amount: f64) -> u64 {
    (amount * 10_000.0).round() as u64
}

fn plain(resources: &Resources) -> [u64; 3] {
    let licences = resources.custom.get("licence").copied().unwrap_or(0.0);
    [parts(resources.cpu), resources.memory_bytes, parts(licences)]
}

impl Free {
    fn new(has: &Resources) -> Self {
        Self { plain: plain(has), devices: vec![10_000; has.gpu as usize] }
    }

    /// Every way to take the request.
    fn ways(&self, wants: &Resources) -> Vec<(Self, Vec<usize>)> {
        let mut left = self.clone();
        for (free, wanted) in left.plain.iter_mut().zip(plain(wants)) {
            let Some(rest) = free.checked_sub(wanted) else { return Vec::new() };
            *free = rest;
        }
        let share = parts(wants.gpu).min(10_000);
        let count = if wants.gpu > 1.0 { wants.gpu as u32 } else { u32::from(wants.gpu > 0.0) };
        let subsets = (0..1_u32 << self.devices.len()).filter(|subset| subset.count_ones() == count);
        let with = |subset: u32| {
            let devices: Vec<usize> = (0..self.devices.len()).filter(|d| subset >> d & 1 == 1).collect();
            let mut left = left.clone();
            for &device in &devices {
                left.devices[device] = left.devices[device].checked_sub(share)?;
            }
            Some((left, devices))
        };
        subsets.filter_map(with).collect()
    }
}

/// Whether the bundles fit somehow; `used` are the nodes of those placed already.
fn fits(nodes: &[Free], rule: Placement, bundles: &[Resources], used: &mut Vec<usize>) -> bool {
    let Some((first, rest)) = bundles.split_first() else { return true };
    (0..nodes.len()).any(|node| {
        let allowed = match rule {
            Placement::StrictPack => used.iter().all(|other| *other == node),
            Placement::StrictSpread => !used.contains(&node),
            Placement::Pack | Placement::Spread => true,
        };
        allowed
            && nodes[node].ways(first).into_iter().any(|(left, _)| {
                let mut after = nodes.to_vec();
                after[node] = left;
                used.push(node);
                let fit = fits(&after, rule, rest, used);
                used.pop();
                fit
            })
    })
}

/// What is free after these grants; panics where one was given what another has.
fn rest(machines: &[Resources], grants: &[&Grant]) -> Vec<Free> {
    let mut nodes: Vec<Free> = machines.iter().map(Free::new).collect();
    for grant in grants {
        let wants = grant.demand.resources();
        let ways = nodes[grant.node].ways(&wants);
        let way = ways.into_iter().find(|(_, devices)| *devices == grant.devices);
        nodes[grant.node] = way.unwrap_or_else(|| panic!("{grant:?} takes what is not free")).0;
    }
    nodes
}

fn machine() -> impl Strategy<Value = Resources> {
    (0..4_u32, 0..3_u32, 0..4_u64, 0..2_u32).prop_map(|(cpu, gpus, memory, licences)| {
        let has = Resources::new().cpu(cpu.into()).gpu(gpus.into()).memory_bytes(memory);
        has.custom("licence", licences.into())
    })
}

fn request() -> impl Strategy<Value = Resources> {
    let gpu = prop_oneof![
        3 => Just(0.0),
        5 => prop::sample::select(vec![0.1, 0.25, 0.3, 0.5, 0.6, 0.7, 0.9]),
        2 => prop::sample::select(vec![1.0, 2.0]),
    ];
    let licence = prop_oneof![4 => Just(0.0), 1 => Just(0.5)];
    (0..5_u32, gpu, 0..2_u64, licence).prop_map(|(half_cpus, gpu, memory, licence)| {
        let wants = Resources::new().cpu(f64::from(half_cpus) / 2.0).gpu(gpu).memory_bytes(memory);
        wants.custom("licence", licence)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn bundles_are_placed_exactly_when_that_is_possible(
        machines in prop::collection::vec(machine(), 1..4),
        taken in prop::collection::vec(request(), 0..3),
        bundles in prop::collection::vec(request(), 1..5),
    ) {
        let mut ledger = ledger(&machines);
        let before: Vec<Grant> = taken.iter().filter_map(|wants| ledger.reserve(&one(wants))).flatten().collect();
        let free = rest(&machines, &before.iter().collect::<Vec<_>>());
        for rule in RULES {
            let state = ledger.clone();
            let possible = fits(&free, rule, &bundles, &mut Vec::new());
            let Some(grants) = ledger.reserve(&gang(rule, &bundles)) else {
                prop_assert!(!possible, "{rule:?}: there is a way");
                prop_assert_eq!(&ledger, &state);
                continue;
            };
            prop_assert_eq!(grants.len(), bundles.len());
            for (grant, bundle) in grants.iter().zip(&bundles) {
                prop_assert_eq!(&grant.demand, &demand(bundle));
            }
            rest(&machines, &before.iter().chain(&grants).collect::<Vec<_>>());
            let mut nodes: Vec<usize> = grants.iter().map(|grant| grant.node).collect();
            nodes.sort_unstable();
            nodes.dedup();
            match rule {
                Placement::StrictPack => prop_assert_eq!(nodes.len(), 1),
                Placement::StrictSpread => prop_assert_eq!(nodes.len(), bundles.len()),
                // The looser rules do what the strict ones would, where that is possible.
                Placement::Pack if fits(&free, Placement::StrictPack, &bundles, &mut Vec::new()) => {
                    prop_assert_eq!(nodes.len(), 1);
                }
                Placement::Spread if fits(&free, Placement::StrictSpread, &bundles, &mut Vec::new()) => {
                    prop_assert_eq!(nodes.len(), bundles.len());
                }
                _ => {}
            }
            ledger.release(&grants);
            prop_assert_eq!(&ledger, &state);
        }
    }

    #[test]
    fn a_request_is_granted_exactly_when_it_fits_and_the_books_always_balance(
        machines in prop::collection::vec(machine(), 1..3),
        steps in prop::collection::vec((request(), any::<Option<prop::sample::Index>>()), 1..24),
    ) {
        let mut ledger = ledger(&machines);
        let empty = ledger.clone();
        let mut held: Vec<Grant> = Vec::new();
        for (wants, release) in steps {
            if let (Some(index), false) = (release, held.is_empty()) {
                let grant = held.swap_remove(index.index(held.len()));
                ledger.release(&[grant]);
            }
            let free = rest(&machines, &held.iter().collect::<Vec<_>>());
            let possible = free.iter().any(|node| !node.ways(&wants).is_empty());
            let granted = ledger.reserve(&one(&wants));
            prop_assert_eq!(granted.is_some(), possible, "{} of {:?}", wants, machines);
            let ever = fits(&rest(&machines, &[]), Placement::Pack, std::slice::from_ref(&wants), &mut Vec::new());
            prop_assert_eq!(ledger.could_ever(&one(&wants)).is_ok(), ever);
            held.extend(granted.into_iter().flatten());
            // What is free and what is held is what there is.
            let mut sum = ledger.free();
            for grant in &held {
                sum.add(&grant.demand);
            }
            prop_assert_eq!(sum, ledger.total());
        }
        ledger.release(&held);
        prop_assert_eq!(ledger, empty);
    }
}

#[test]
fn shares_fill_one_device_before_the_next_and_whole_devices_are_distinct() {
    let mut ledger = ledger(&[gpu(3.0)]);
    let mut devices = |wants: &Resources| ledger.reserve(&one(wants)).map(|grants| grants[0].devices.clone());
    for _ in 0..4 {
        assert_eq!(devices(&gpu(0.25)), Some(vec![0]));
    }
    assert_eq!(devices(&gpu(0.7)), Some(vec![1]));
    // 0.3 of one and all of another are free, but no share is split over the two.
    assert_eq!(devices(&gpu(0.3)), Some(vec![1]));
    assert_eq!(devices(&gpu(2.0)), None);
    assert_eq!(devices(&gpu(1.0)), Some(vec![2]));
    assert_eq!(devices(&gpu(0.1)), None);
}

#[test]
fn what_is_lacking_is_said_in_numbers() {
    let machine = Resources::new().cpu(4.0).gpu(2.0).memory_bytes(8 << 30).custom("licence", 1.0);
    let mut ledger = ledger(&[machine]);
    let held = ledger.reserve(&one(&Resources::new().cpu(3.0).gpu(0.6))).unwrap();
    let other = ledger.reserve(&one(&gpu(0.6))).unwrap();
    assert_eq!(ledger.lacks(&one(&Resources::new().cpu(2.0))), "1 of 4 cpu free");
    assert_eq!(ledger.lacks(&one(&gpu(0.5))), "0.8 gpu free, but not 0.5 on one device");
    ledger.release(&other);
    assert_eq!(ledger.lacks(&one(&gpu(2.0))), "1.4 of 2 gpu free");
    assert_eq!(
        ledger.lacks(&gang(Placement::Pack, &[Resources::new().cpu(1.0), Resources::new().cpu(1.0)])),
        "1 of 4 cpu free"
    );
    ledger.release(&held);
    let never = |ask: &Ask| ledger.could_ever(ask).unwrap_err();
    assert_eq!(never(&one(&Resources::new().custom("tpu", 1.0))), "0 of 0 tpu free");
    let spread = [Resources::new().cpu(1.0), Resources::new().cpu(1.0)];
    let why = never(&gang(Placement::StrictSpread, &spread));
    assert_eq!(why, "2 bundles must lie on as many nodes, and there are 1");
    let much = Resources::new().memory_bytes(9 << 30);
    assert_eq!(never(&one(&much)), "8.0 GiB of memory free of 8.0 GiB of memory");
}

#[test]
fn a_gang_that_needs_the_right_order_is_found() {
    // In the order given, the first two would share a device and the last would find no room.
    let mut ledger = ledger(&[gpu(2.0)]);
    let bundles = [gpu(0.5), gpu(0.3), gpu(0.7), gpu(0.5)];
    let grants = ledger.reserve(&gang(Placement::StrictPack, &bundles)).unwrap();
    let device = |n: usize| grants[n].devices[0];
    assert_eq!((device(0), device(1)), (device(3), device(2)));
    assert_eq!(ledger.free().gpu, Amount::ZERO);
}

#[test]
fn a_search_without_end_is_cut_and_leaves_nothing_behind() {
    // Shares of 0.34 fit twice on a device: 41 on 20 devices cannot be, but the amounts alone do not tell.
    let mut ledger = ledger(&[gpu(10.0), gpu(10.0)]);
    let empty = ledger.clone();
    let too_many = vec![gpu(0.34); 41];
    assert!(ledger.reserve(&gang(Placement::Pack, &too_many)).is_none());
    assert_eq!(ledger, empty);
}
