//! Who is served when: by fair share, and nobody never.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::broker::{Broker, Served, Submitted};
use super::error::{Owner, ResourceError};
use super::fair::{OVERTAKES, Ticket};
use super::ledger::{Ask, Ledger};
use super::node::{Grant, Node};
use super::place::Placement;
use super::request::{Demand, Resources};

fn broker(machine: &Resources) -> Broker {
    Broker::new(Ledger::new(vec![Node::machine(&Demand::new(machine).unwrap())]))
}

fn ask(resources: &Resources) -> Ask {
    Ask::One { demand: Demand::new(resources).unwrap(), node: None }
}

fn cpu(n: f64) -> Ask {
    ask(&Resources::new().cpu(n))
}

fn owner(name: &str) -> Owner {
    Some(name.into())
}

/// Drives a broker and remembers who holds what.
struct Bench {
    broker: Broker,
    held: Vec<(Owner, Vec<Grant>)>,
    waiting: HashMap<Ticket, (Owner, Ask)>,
}

impl Bench {
    fn new(machine: &Resources) -> Self {
        Self { broker: broker(machine), held: Vec::new(), waiting: HashMap::new() }
    }

    fn submit(&mut self, owner: Owner, ask: Ask) -> Result<Option<Ticket>, ResourceError> {
        match self.broker.submit(Duration::ZERO, owner.clone(), ask.clone())? {
            Submitted::Granted(grants) => self.held.push((owner, grants)),
            Submitted::Waits(ticket) => {
                self.waiting.insert(ticket, (owner, ask));
                return Ok(Some(ticket));
            }
        }
        Ok(None)
    }

    fn serve(&mut self, served: Vec<Served>) -> Vec<Ticket> {
        let take = |(ticket, owner, grants): Served| {
            let (asker, ask) = self.waiting.remove(&ticket).unwrap();
            assert_eq!(asker, owner);
            let mut granted = Demand::default();
            for grant in &grants {
                granted.add(&grant.demand);
            }
            assert_eq!(granted, ask.sum());
            self.held.push((owner, grants));
            ticket
        };
        served.into_iter().map(take).collect()
    }

    fn release(&mut self, index: usize) -> Vec<Ticket> {
        let (owner, grants) = self.held.remove(index);
        let served = self.broker.release(&owner, &grants);
        self.serve(served)
    }

    fn withdraw(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
        let served = self.broker.withdraw(ticket);
        self.serve(served);
    }
}

fn request() -> impl Strategy<Value = Ask> {
    let single = (0..5_u32, 0..5_u32)
        .prop_map(|(cpu, quarters)| ask(&Resources::new().cpu(cpu.into()).gpu(f64::from(quarters) / 4.0)));
    let bundle = (1..3_u32).prop_map(|cpu| Demand::new(&Resources::new().cpu(cpu.into())).unwrap());
    let gang =
        prop::collection::vec(bundle, 1..4).prop_map(|bundles| Ask::Gang { rule: Placement::Pack, bundles });
    prop_oneof![3 => single, 1 => gang]
}

#[derive(Clone, Debug)]
enum Step {
    Submit(u8, Ask),
    Release(prop::sample::Index),
    Withdraw(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, request()).prop_map(|(owner, ask)| Step::Submit(owner, ask)),
        3 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => any::<prop::sample::Index>().prop_map(Step::Withdraw),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_fits_waits_nothing_is_lost_and_all_are_served_in_the_end(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let machine = Resources::new().cpu(4.0).gpu(1.0);
        let mut bench = Bench::new(&machine);
        let total = bench.broker.total().clone();
        for step in steps {
            match step {
                Step::Submit(name, ask) => {
                    let fits_ever = total.plain.covers(&ask.sum().plain);
                    let refused = bench.submit(owner(&name.to_string()), ask).is_err();
                    prop_assert_eq!(refused, !fits_ever);
                }
                Step::Release(index) if !bench.held.is_empty() => {
                    bench.release(index.index(bench.held.len()));
                }
                Step::Withdraw(index) if !bench.waiting.is_empty() => {
                    let mut tickets: Vec<_> = bench.waiting.keys().copied().collect();
                    tickets.sort_unstable();
                    bench.withdraw(tickets[index.index(tickets.len())]);
                }
                _ => {}
            }
            prop_assert_eq!(bench.broker.queue.len(), bench.waiting.len());
            if bench.broker.queue.lets_pass() {
                for (_, ask) in bench.waiting.values() {
                    prop_assert!(bench.broker.ledger.clone().reserve(ask).is_none(), "{ask:?} fits and waits");
                }
            }
            // Free and held are what there is; and each owner's books are right.
            let mut sum = bench.broker.ledger.free();
            let mut leases: HashMap<Owner, usize> = HashMap::new();
            for (owner, grants) in &bench.held {
                for grant in grants {
                    sum.add(&grant.demand);
                }
                *leases.entry(owner.clone()).or_default() += 1;
            }
            prop_assert_eq!(&sum, &total);
            let booked: HashMap<Owner, usize> =
                bench.broker.held().map(|(owner, _, leases)| (owner.clone(), leases)).collect();
            prop_assert_eq!(booked, leases);
        }
        while !bench.held.is_empty() {
            bench.release(0);
        }
        prop_assert!(bench.waiting.is_empty());
    }
}

#[test]
fn a_large_request_is_overtaken_a_bounded_number_of_times() {
    let mut bench = Bench::new(&Resources::new().cpu(4.0));
    for _ in 0..4 {
        bench.submit(owner("small"), cpu(1.0)).unwrap();
    }
    let large = bench.submit(owner("large"), cpu(4.0)).unwrap().unwrap();
    let mut overtaken = 0;
    // A stream of small requests that never dries up: each that ends is followed by another at once.
    let served = loop {
        let ticket = bench.submit(owner("small"), cpu(1.0)).unwrap();
        let served = bench.release(0);
        if served.contains(&large) {
            break overtaken;
        }
        overtaken += served.len() + usize::from(ticket.is_none());
        assert!(overtaken <= OVERTAKES, "starved");
        assert!(bench.held.len() <= 4);
        assert!(!bench.held.is_empty(), "nobody is served");
    };
    assert_eq!(served, OVERTAKES);
}

#[test]
fn who_holds_less_comes_first_whatever_the_order_of_arrival() {
    let mut bench = Bench::new(&Resources::new().cpu(4.0).gpu(1.0));
    for _ in 0..4 {
        bench.submit(owner("many"), cpu(1.0)).unwrap();
    }
    for _ in 0..3 {
        bench.submit(owner("many"), cpu(1.0)).unwrap();
    }
    let mut few = || bench.submit(owner("few"), cpu(1.0)).unwrap().unwrap();
    let few = [few(), few(), few()];
    assert_eq!(bench.release(0), [few[0]]);
    assert_eq!(bench.release(0), [few[1]]);
    // The last one to leave was one of the many, who hold less now.
    let third = bench.release(0);
    assert!(!few.contains(&third[0]));
    assert_eq!(bench.held.iter().filter(|(name, _)| *name == owner("few")).count(), 2);
}

#[test]
fn a_share_of_the_scarce_kind_counts_as_much_as_one_of_the_common_kind() {
    let mut bench = Bench::new(&Resources::new().cpu(10.0).gpu(2.0));
    // 1 of 2 devices is more than 4 of 10 processors.
    bench.submit(owner("gpus"), ask(&Resources::new().gpu(1.0))).unwrap();
    bench.submit(owner("cpus"), cpu(4.0)).unwrap();
    bench.submit(None, cpu(6.0)).unwrap();
    bench.submit(owner("gpus"), cpu(3.0)).unwrap().unwrap();
    let cpus = bench.submit(owner("cpus"), cpu(4.0)).unwrap().unwrap();
    assert_eq!(bench.release(2), [cpus]);
}

#[test]
fn what_can_never_be_had_is_refused_at_once_with_the_reason() {
    let mut bench = Bench::new(&Resources::new().cpu(4.0).gpu(1.0));
    let refuse = bench.submit(None, ask(&Resources::new().gpu(2.0))).unwrap_err();
    assert_eq!(refuse.to_string(), "2 gpu can never be had: 1 of 1 gpu free (there is 4 cpu, 1 gpu in all)");
    let rule = Placement::StrictPack;
    let bundles = vec![Demand::new(&Resources::new().cpu(3.0)).unwrap(); 2];
    let refuse = bench.submit(None, Ask::Gang { rule, bundles }).unwrap_err();
    assert!(matches!(refuse, ResourceError::Never { asked, .. } if asked.cpu == 6.0));
}

#[test]
fn withdrawing_the_request_that_has_waited_longest_lets_others_go_on() {
    let mut bench = Bench::new(&Resources::new().cpu(2.0));
    bench.submit(None, cpu(1.0)).unwrap();
    let large = bench.submit(None, cpu(2.0)).unwrap().unwrap();
    // Overtake it until nobody may any more.
    while bench.broker.queue.lets_pass() {
        assert_eq!(bench.submit(None, cpu(1.0)).unwrap(), None);
        let last = bench.held.len() - 1;
        bench.release(last);
    }
    let small = bench.submit(None, cpu(1.0)).unwrap();
    assert!(small.is_some(), "it is the large one's turn");
    bench.withdraw(large);
    assert!(bench.waiting.is_empty());
    assert_eq!(bench.held.len(), 2);
}
