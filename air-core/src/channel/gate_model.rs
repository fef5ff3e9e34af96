//! Every interleaving of a few senders and receivers over one gate.
//!
//! Each step of the real ends is one move of the model: what they do under the lock, or one take from the queue without
//! it. The search visits every reachable state, checks the invariants in each, and calls it a lost wake-up where
//! nobody can move although somebody should.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use super::*;

type Item = u8;
type Actor = usize;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Role {
    /// Sends these weights in turn; the item is its place in `World::weights`.
    Sender {
        left: Vec<Item>,
        parked: Option<u64>,
        may_cancel: bool,
    },
    /// Blocks on the queue, which wakes it whenever there is an item.
    Blocking {
        holds: Option<usize>,
    },
    /// Waits at the gate; may be dropped whenever it holds nothing.
    Async {
        ticket: Option<u64>,
        looked: bool,
        parked: bool,
        holds: Option<usize>,
        may_drop: bool,
    },
    Gone,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    limit: (usize, usize),
    weights: Vec<usize>,
    gate: Gate<Item, Actor>,
    queue: VecDeque<Parcel<Item>>,
    roles: Vec<Role>,
    woken: Vec<bool>,
    arrived: Vec<Item>,
    admitted: Vec<Item>,
    received: Vec<Item>,
    cancelled: Vec<Item>,
}

impl World {
    fn new(limit: Limit, roles: Vec<Role>, weights: &[usize]) -> World {
        World {
            limit: (limit.items, limit.bytes),
            weights: weights.to_vec(),
            gate: Gate::new(limit),
            queue: VecDeque::new(),
            woken: vec![false; roles.len()],
            roles,
            arrived: vec![],
            admitted: vec![],
            received: vec![],
            cancelled: vec![],
        }
    }

    /// Every state one move away.
    fn moves(&self) -> Vec<World> {
        let mut next = Vec::new();
        for actor in 0..self.roles.len() {
            match &self.roles[actor] {
                Role::Sender { left, parked: None, .. } if !left.is_empty() => {
                    next.push(self.after(actor, World::enter));
                }
                Role::Sender { parked: Some(_), may_cancel, .. } => {
                    if self.woken[actor] {
                        next.push(self.after(actor, World::check));
                    }
                    if *may_cancel {
                        next.push(self.after(actor, World::withdraw));
                    }
                }
                Role::Blocking { holds: None } if !self.queue.is_empty() => {
                    next.push(self.after(actor, World::take));
                }
                Role::Blocking { holds: Some(_) } | Role::Async { holds: Some(_), .. } => {
                    next.push(self.after(actor, World::leave));
                }
                Role::Async { parked: false, looked: false, holds: None, may_drop, .. } => {
                    next.push(self.after(actor, World::take));
                    if *may_drop {
                        next.push(self.after(actor, World::give_up));
                    }
                }
                Role::Async { parked: false, looked: true, .. } => {
                    next.push(self.after(actor, World::take_or_wait));
                }
                Role::Async { parked: true, may_drop, .. } => {
                    if self.woken[actor] {
                        next.push(self.after(actor, World::unpark));
                    }
                    if *may_drop {
                        next.push(self.after(actor, World::give_up));
                    }
                }
                _ => {}
            }
        }
        next
    }

    fn after(&self, actor: Actor, step: fn(&mut World, Actor)) -> World {
        let mut world = self.clone();
        step(&mut world, actor);
        world
    }

    fn enter(&mut self, actor: Actor) {
        let Role::Sender { left, .. } = &mut self.roles[actor] else { unreachable!() };
        let item = left.remove(0);
        let parcel = Parcel { item, weight_bytes: self.weights[usize::from(item)] };
        self.arrived.push(item);
        let (queue, admitted) = (&mut self.queue, &mut self.admitted);
        let entry = self.gate.enter(parcel, |parcel| {
            admitted.push(parcel.item);
            queue.push_back(parcel);
        });
        match entry {
            Entry::Inside(receiver) => self.wake(receiver),
            Entry::Full(parcel) => {
                let ticket = self.gate.wait(parcel, actor);
                self.woken[actor] = false;
                self.set_parked(actor, Some(ticket));
            }
            Entry::Closed(_) => panic!("closed with receivers alive"),
        }
    }

    fn check(&mut self, actor: Actor) {
        let Role::Sender { parked: Some(ticket), .. } = self.roles[actor] else { unreachable!() };
        self.woken[actor] = false;
        match self.gate.check(ticket, &mut actor.clone()) {
            Waited::Inside => self.set_parked(actor, None),
            Waited::Pending => {}
            Waited::Closed(_) => panic!("closed with receivers alive"),
        }
    }

    fn withdraw(&mut self, actor: Actor) {
        let Role::Sender { parked: Some(ticket), .. } = self.roles[actor] else { unreachable!() };
        let mut wakes = vec![];
        let (queue, admitted) = (&mut self.queue, &mut self.admitted);
        let push = |parcel: Parcel<Item>| {
            admitted.push(parcel.item);
            queue.push_back(parcel);
        };
        let item = self.gate.withdraw(ticket, push, &mut wakes);
        self.cancelled.extend(item.map(|(item, _)| item));
        self.wake(wakes);
        self.set_parked(actor, None);
    }

    /// One take from the queue without the lock.
    fn take(&mut self, actor: Actor) {
        let taken = self.queue.pop_front();
        self.received.extend(taken.as_ref().map(|parcel| parcel.item));
        let weight = taken.map(|parcel| parcel.weight_bytes);
        match &mut self.roles[actor] {
            Role::Blocking { holds } => *holds = weight,
            Role::Async { holds, looked, .. } => {
                *looked = true;
                *holds = weight;
            }
            _ => unreachable!(),
        }
    }

    fn leave(&mut self, actor: Actor) {
        let (weight, ticket) = match &mut self.roles[actor] {
            Role::Blocking { holds } => (holds.take().unwrap(), None),
            Role::Async { holds, ticket, looked, .. } => {
                *looked = false;
                (holds.take().unwrap(), ticket.take())
            }
            _ => unreachable!(),
        };
        self.count_out(weight, ticket);
    }

    fn take_or_wait(&mut self, actor: Actor) {
        let Role::Async { ticket: before, .. } = self.roles[actor] else { unreachable!() };
        let (ticket, parked) = if let Some(parcel) = self.queue.pop_front() {
            self.received.push(parcel.item);
            self.count_out(parcel.weight_bytes, before);
            (None, false)
        } else {
            self.woken[actor] = false;
            (Some(self.gate.wait_to_receive(before, actor).0), true)
        };
        let Role::Async { ticket: mine, parked: asleep, looked, .. } = &mut self.roles[actor] else {
            unreachable!()
        };
        (*mine, *asleep, *looked) = (ticket, parked, false);
    }

    fn unpark(&mut self, actor: Actor) {
        self.woken[actor] = false;
        let Role::Async { parked, .. } = &mut self.roles[actor] else { unreachable!() };
        *parked = false;
    }

    fn give_up(&mut self, actor: Actor) {
        let Role::Async { ticket, .. } = self.roles[actor] else { unreachable!() };
        if let Some(ticket) = ticket {
            let next = self.gate.give_up_receiving(ticket).err().flatten();
            self.wake(next);
        }
        self.roles[actor] = Role::Gone;
    }

    fn count_out(&mut self, weight: usize, ticket: Option<u64>) {
        if let Some(ticket) = ticket {
            self.gate.received(ticket);
        }
        let mut wakes = vec![];
        let (queue, admitted) = (&mut self.queue, &mut self.admitted);
        let push = |parcel: Parcel<Item>| {
            admitted.push(parcel.item);
            queue.push_back(parcel);
        };
        self.gate.leave(weight, push, &mut wakes);
        self.wake(wakes);
    }

    fn wake(&mut self, actors: impl IntoIterator<Item = Actor>) {
        for actor in actors {
            self.woken[actor] = true;
        }
    }

    fn set_parked(&mut self, actor: Actor, ticket: Option<u64>) {
        let Role::Sender { parked, .. } = &mut self.roles[actor] else { unreachable!() };
        *parked = ticket;
    }

    fn check_invariants(&self) {
        let held = self.roles.iter().filter_map(|role| match role {
            Role::Blocking { holds } | Role::Async { holds, .. } => *holds,
            _ => None,
        });
        let weights: Vec<usize> = self.queue.iter().map(|parcel| parcel.weight_bytes).chain(held).collect();
        assert_eq!(self.gate.bytes(), weights.iter().sum::<usize>(), "exact in bytes");
        assert_eq!(self.gate.items(), weights.len(), "exact in items");
        let within = weights.len() <= self.limit.0 && self.gate.bytes() <= self.limit.1;
        assert!(within || weights.len() == 1, "within the limit, or one heavy item alone");
        let first = self.gate.senders.front();
        assert!(
            first.is_none_or(|first| !self.gate.fits(first.parcel.weight_bytes)),
            "nobody waits beside room"
        );
        let mut line = self.arrived.iter();
        assert!(self.admitted.iter().all(|item| line.any(|other| other == item)), "first come, first in");
        assert!(self.admitted.starts_with(&self.received), "received in the order of entry");
    }

    /// Nobody can move: all that was sent must have arrived, or there is nobody left to receive it.
    fn check_end(&self) {
        let receivers =
            self.roles.iter().any(|role| matches!(role, Role::Blocking { .. } | Role::Async { .. }));
        if !receivers {
            return;
        }
        for role in &self.roles {
            if let Role::Sender { left, parked, .. } = role {
                assert!(left.is_empty() && parked.is_none(), "a sender sleeps beside room");
            }
        }
        assert!(self.queue.is_empty(), "a receiver sleeps beside an item");
        let mut seen: Vec<Item> = self.received.iter().chain(&self.cancelled).copied().collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..self.weights.len() as Item), "each item once");
        assert_eq!((self.gate.items(), self.gate.bytes()), (0, 0));
    }
}

/// Visits every state; returns how many there are.
fn explore(start: World) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        if seen.contains(&world) {
            continue;
        }
        world.check_invariants();
        let next = world.moves();
        if next.is_empty() {
            world.check_end();
        }
        open.extend(next);
        seen.insert(world);
    }
    seen.len()
}

fn sender(items: std::ops::Range<Item>) -> Role {
    Role::Sender { left: items.collect(), parked: None, may_cancel: false }
}

fn fickle_sender(items: std::ops::Range<Item>) -> Role {
    Role::Sender { left: items.collect(), parked: None, may_cancel: true }
}

fn blocking() -> Role {
    Role::Blocking { holds: None }
}

fn waiting(may_drop: bool) -> Role {
    Role::Async { ticket: None, looked: false, parked: false, holds: None, may_drop }
}

#[test]
fn a_heavy_item_among_light_ones() {
    let limit = Limit { items: 3, bytes: 10 };
    // Item 0 weighs more than the limit, 1 fills it, the others are light.
    let roles = vec![sender(0..2), sender(2..4), sender(4..5), blocking()];
    assert!(explore(World::new(limit, roles, &[25, 10, 4, 4, 4])) > 500);
}

#[test]
fn one_slot_and_two_receivers() {
    let limit = Limit { items: 1, bytes: 100 };
    assert!(
        explore(World::new(limit, vec![sender(0..2), sender(2..4), blocking(), blocking()], &[1; 4])) > 300
    );
}

#[test]
fn senders_that_give_up_let_those_behind_them_in() {
    let limit = Limit { items: 3, bytes: 10 };
    let roles = vec![sender(0..1), fickle_sender(1..2), sender(2..4), blocking()];
    assert!(explore(World::new(limit, roles, &[6, 8, 2, 2])) > 200);
}

#[test]
fn async_receivers_miss_nothing() {
    let limit = Limit { items: 2, bytes: 10 };
    let roles = vec![sender(0..2), sender(2..4), waiting(false), waiting(false)];
    assert!(explore(World::new(limit, roles, &[6, 6, 3, 3])) > 1000);
}

#[test]
fn a_dropped_receiver_passes_its_wake_up_on() {
    let limit = Limit { items: 2, bytes: 10 };
    let roles = vec![sender(0..3), waiting(true), waiting(true), waiting(false)];
    assert!(explore(World::new(limit, roles, &[5, 5, 5])) > 1000);
}

#[test]
fn blocking_and_async_receivers_share_a_channel() {
    let limit = Limit { items: 2, bytes: 10 };
    let roles = vec![sender(0..2), fickle_sender(2..3), blocking(), waiting(true)];
    assert!(explore(World::new(limit, roles, &[12, 3, 8])) > 1000);
}

#[test]
fn closing_hands_waiting_items_back() {
    let mut gate: Gate<&str, u8> = Gate::new(Limit { items: 1, bytes: 9 });
    let parcel = |item| Parcel { item, weight_bytes: 1 };
    assert!(matches!(gate.enter(parcel("a"), |_| {}), Entry::Inside(None)));
    let Entry::Full(second) = gate.enter(parcel("b"), |_| panic!("no room")) else { panic!("no room") };
    let ticket = gate.wait(second, 7);
    let mut waker = 8;
    assert_eq!((gate.check(ticket, &mut waker), waker), (Waited::Pending, 7));
    assert_eq!(gate.close().collect::<Vec<_>>(), [&8]);
    assert_eq!((gate.check(ticket, &mut waker), waker), (Waited::Closed("b"), 8));
    assert!(matches!(gate.enter(parcel("c"), |_| {}), Entry::Closed(Parcel { item: "c", .. })));
}
