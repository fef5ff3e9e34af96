//! How many replicas a deployment should have: Ray Serve's formula and names, on this process's own counters. Pure.
//!
//! `desired = ceil(running · (1 + (ongoing / running / target − 1) · factor))`, within the bounds, acted on once it has been wanted for the
//! delay. Two things differ from Ray. Going up looks back no further than its own delay: what was before a load began says nothing about it.
//! Going down goes to the most that was wanted in the later half of its delay, and stops at what the busy replicas need: a replica that takes
//! one batch at a time is full at one, whatever the target says. To take one away only to need it again a second later would be an oscillation.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::MOST_REPLICAS;
use crate::error::ServeError;

/// Downscaling leaves the replicas at most this busy.
const FULLEST: f64 = 0.9;

/// How many replicas a deployment may have, and when it gets more or fewer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AutoscalingConfig {
    /// Fewest replicas (default 1); with 0 an idle deployment holds nothing, and its first request waits while a replica starts.
    pub min_replicas: usize,
    /// Replicas to begin with (default: the fewest).
    pub initial_replicas: Option<usize>,
    /// Most replicas (default 100).
    pub max_replicas: usize,
    /// Requests, queued or executing, that each replica should have (default 2).
    pub target_ongoing_requests: f64,
    /// How long more replicas must be wanted before there are more, in seconds (default 1). A request that finds none does not wait for this.
    pub upscale_delay_s: f64,
    /// How long fewer must be wanted before there are fewer, in seconds (default 60).
    pub downscale_delay_s: f64,
    /// The share of the error that is made up for when there are too few (default 1).
    pub upscaling_factor: f64,
    /// The same when there are too many (default 1).
    pub downscaling_factor: f64,
    /// Requests are averaged over this time, in seconds (default 5); to go up, over no more than `upscale_delay_s`.
    pub look_back_period_s: f64,
    /// How often they are counted, in seconds (default 0.1).
    pub metrics_interval_s: f64,
}

impl Default for AutoscalingConfig {
    fn default() -> Self {
        AutoscalingConfig {
            min_replicas: 1,
            initial_replicas: None,
            max_replicas: 100,
            target_ongoing_requests: 2.0,
            upscale_delay_s: 1.0,
            downscale_delay_s: 60.0,
            upscaling_factor: 1.0,
            downscaling_factor: 1.0,
            look_back_period_s: 5.0,
            metrics_interval_s: 0.1,
        }
    }
}

impl AutoscalingConfig {
    /// Checks every field.
    pub fn validate(&self) -> Result<(), ServeError> {
        let refuse = |message: String| Err(ServeError::config(format!("autoscaling_config: {message}")));
        let (min, max) = (self.min_replicas, self.max_replicas);
        if !(1..=MOST_REPLICAS).contains(&max) || min > max {
            return refuse(format!(
                "replicas from {min} to {max}: the most must be 1 to {MOST_REPLICAS}, the fewest no more than that"
            ));
        }
        if let Some(initial) = self.initial_replicas
            && !(min..=max).contains(&initial)
        {
            return refuse(format!("initial_replicas is {initial}, it must be {min} to {max}"));
        }
        for (name, value) in [
            ("target_ongoing_requests", self.target_ongoing_requests),
            ("upscaling_factor", self.upscaling_factor),
            ("downscaling_factor", self.downscaling_factor),
        ] {
            if !(value > 0.0 && value <= 1e6) {
                return refuse(format!("{name} is {value}, it must be above 0 and at most 1000000"));
            }
        }
        for (name, value, least) in [
            ("upscale_delay_s", self.upscale_delay_s, 0.0),
            ("downscale_delay_s", self.downscale_delay_s, 0.0),
            ("look_back_period_s", self.look_back_period_s, 0.0),
            ("metrics_interval_s", self.metrics_interval_s, 0.01),
        ] {
            if !(least..=86_400.0).contains(&value) {
                return refuse(format!("{name} is {value}, it must be {least} to 86400"));
            }
        }
        if self.look_back_period_s / self.metrics_interval_s > 100_000.0 {
            return refuse("look_back_period_s holds more than 100000 counts".to_owned());
        }
        Ok(())
    }

    fn initial(&self) -> usize {
        self.initial_replicas.unwrap_or(self.min_replicas)
    }
}

/// What a deployment does now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Requests that are queued or executing.
    pub ongoing: usize,
    /// Replicas that were executing something, on average since the last time.
    pub busy: f64,
    /// Replicas that are ready.
    pub running: usize,
}

/// Decides how many replicas there should be.
pub(crate) struct Autoscaler {
    config: AutoscalingConfig,
    target: usize,
    /// When, ongoing, busy; oldest first, as far as is looked back.
    samples: VecDeque<(Duration, f64, f64)>,
    wish: Option<Wish>,
}

/// That more or fewer replicas are wanted.
#[derive(Clone, Copy)]
struct Wish {
    way: Way,
    since: Duration,
    /// How many.
    replicas: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Autoscaler {
    pub(crate) fn new(config: AutoscalingConfig) -> Self {
        Autoscaler { target: config.initial(), config, samples: VecDeque::new(), wish: None }
    }

    /// Replicas there should be.
    pub(crate) fn target(&self) -> usize {
        self.target
    }

    /// Whether it is time to count again.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        let interval = Duration::from_secs_f64(self.config.metrics_interval_s);
        self.samples.back().is_none_or(|(last, ..)| now >= last.saturating_add(interval))
    }

    /// Takes new settings, keeping as many replicas as they allow.
    pub(crate) fn reconfigure(&mut self, config: AutoscalingConfig) {
        self.target = self.target.clamp(config.min_replicas, config.max_replicas);
        self.config = config;
        self.wish = None;
    }

    /// The first request of a deployment without replicas: it gets one at once.
    pub(crate) fn wake(&mut self) {
        let first = self.config.upscaling_factor.ceil() as usize;
        self.target = self.target.max(first.clamp(1, self.config.max_replicas));
    }

    /// Takes in a count; returns how many replicas there should be from now on.
    pub(crate) fn observe(&mut self, now: Duration, load: Load) -> usize {
        let look_back = Duration::from_secs_f64(self.config.look_back_period_s);
        self.samples.push_back((now, load.ongoing as f64, load.busy));
        while self.samples.front().is_some_and(|(at, ..)| at.saturating_add(look_back) < now) {
            self.samples.pop_front();
        }
        if load.running == 0 && load.ongoing > 0 {
            self.wake();
            return self.target;
        }
        // One that cannot start for want of its weights, say, is not tried for ever when nobody asks.
        let running = load.running.max(1);
        let recent = look_back.min(Duration::from_secs_f64(self.config.upscale_delay_s));
        let up = self.desired(self.mean(now, recent).0, running);
        let (ongoing, busy) = self.mean(now, look_back);
        // What the busy ones need counts only against taking replicas away.
        let needed = (busy / FULLEST).ceil() as usize;
        let down = self.desired(ongoing, running).max(up).max(needed.min(self.target));
        let (way, desired, delay) = if up > self.target {
            (Way::Up, up, self.config.upscale_delay_s)
        } else if down < self.target {
            (Way::Down, down, self.config.downscale_delay_s)
        } else {
            self.wish = None;
            return self.target;
        };
        let delay = Duration::from_secs_f64(delay);
        let new = Wish { way, since: now, replicas: desired };
        let mut wish = self.wish.filter(|wish| wish.way == way).unwrap_or(new);
        let waited = now.saturating_sub(wish.since);
        let settles = way == Way::Down && waited >= delay / 2;
        wish.replicas = if settles { wish.replicas.max(desired) } else { desired };
        self.wish = Some(wish);
        if waited >= delay {
            self.wish = None;
            self.target = wish.replicas;
        }
        self.target
    }

    /// Ongoing requests and busy replicas, averaged over the last `period`; at least over the last count.
    fn mean(&self, now: Duration, period: Duration) -> (f64, f64) {
        let from = now.saturating_sub(period);
        let (mut ongoing, mut busy, mut count) = (0.0, 0.0, 0.0);
        for (at, requests, replicas) in self.samples.iter().rev() {
            if *at < from {
                break;
            }
            ongoing += requests;
            busy += replicas;
            count += 1.0;
        }
        (ongoing / f64::max(count, 1.0), busy / f64::max(count, 1.0))
    }

    /// Ray's formula.
    fn desired(&self, ongoing: f64, running: usize) -> usize {
        let running = running as f64;
        let error = ongoing / running / self.config.target_ongoing_requests;
        let factor = if error >= 1.0 { self.config.upscaling_factor } else { self.config.downscaling_factor };
        let mut desired = (running * (1.0 + (error - 1.0) * factor)).ceil();
        // A small factor must not keep it for ever where it is.
        if (running * error).ceil() < running && desired == running {
            desired -= 1.0;
        }
        (desired.max(0.0) as usize).clamp(self.config.min_replicas, self.config.max_replicas)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn between(min: usize, max: usize) -> AutoscalingConfig {
        AutoscalingConfig { min_replicas: min, max_replicas: max, ..AutoscalingConfig::default() }
    }

    #[test]
    fn the_formula_is_rays() {
        // ongoing, running, target, up, down, desired: from Ray 2.60's `_calculate_desired_num_replicas`.
        for (ongoing, running, target, up, down, want) in [
            (20.0, 4, 2.0, 1.0, 1.0, 10),
            (21.0, 4, 2.0, 1.0, 1.0, 11),
            (4.0, 4, 2.0, 1.0, 1.0, 2),
            (0.0, 4, 2.0, 1.0, 1.0, 0),
            (20.0, 4, 2.0, 0.5, 1.0, 7),
            (20.0, 4, 2.0, 2.0, 1.0, 16),
            (4.0, 4, 2.0, 1.0, 0.5, 3),
            (7.0, 10, 1.0, 1.0, 0.1, 9),
            (9.5, 10, 1.0, 1.0, 0.1, 10),
            (10_000.0, 4, 2.0, 1.0, 1.0, 100),
        ] {
            let scaler = Autoscaler::new(AutoscalingConfig {
                target_ongoing_requests: target,
                upscaling_factor: up,
                downscaling_factor: down,
                ..between(0, 100)
            });
            assert_eq!(scaler.desired(ongoing, running), want, "{ongoing} {running} {target} {up} {down}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        between(0, 5).validate().unwrap();
        let with = |change: fn(&mut AutoscalingConfig)| {
            let mut config = between(1, 5);
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(with(|config| config.min_replicas = 6).contains("from 6 to 5"));
        assert!(with(|config| config.max_replicas = 0).contains("must be 1 to"));
        assert!(with(|config| config.initial_replicas = Some(6)).contains("initial_replicas is 6"));
        assert!(with(|config| config.target_ongoing_requests = 0.0).contains("target_ongoing_requests"));
        assert!(with(|config| config.upscale_delay_s = f64::NAN).contains("upscale_delay_s"));
        assert!(with(|config| config.look_back_period_s = 80_000.0).contains("100000 counts"));
    }

    #[test]
    fn a_load_must_last_for_the_delay() {
        let mut scaler = Autoscaler::new(between(1, 10));
        let mut at = |from: u64, to: u64, ongoing| {
            let load = Load { ongoing, busy: 1.0, running: 1 };
            (from..to).step_by(100).map(|t| scaler.observe(ms(t), load)).last().unwrap()
        };
        assert_eq!(at(0, 200, 8), 1);
        assert_eq!(at(200, 2500, 0), 1, "it ended long before the delay was over");
        assert_eq!(at(2500, 3500, 8), 1);
        assert_eq!(at(3500, 4500, 8), 4);
    }

    #[test]
    fn to_zero_after_the_delay_and_back_at_once() {
        let config = between(0, 10);
        let mut scaler = Autoscaler::new(AutoscalingConfig { initial_replicas: Some(1), ..config });
        let idle = Load { ongoing: 0, busy: 0.0, running: 1 };
        let gone = (0..100_000).step_by(100).find(|t| scaler.observe(ms(*t), idle) == 0).unwrap();
        assert_eq!(gone, 60_000);
        assert_eq!(scaler.observe(ms(60_100), Load { running: 0, ..idle }), 0);
        assert_eq!(scaler.observe(ms(60_200), Load { ongoing: 1, busy: 0.0, running: 0 }), 1);
    }

    #[test]
    fn what_never_starts_is_given_up_when_nobody_asks() {
        let mut scaler = Autoscaler::new(between(0, 10));
        assert_eq!(scaler.observe(ms(0), Load { ongoing: 3, busy: 0.0, running: 0 }), 1);
        let idle = Load { ongoing: 0, busy: 0.0, running: 0 };
        let gone = (100..100_000).step_by(100).find(|t| scaler.observe(ms(*t), idle) == 0).unwrap();
        assert!((60_000..66_000).contains(&gone), "{gone}");
    }

    #[test]
    fn new_bounds_hold_at_once() {
        let mut scaler = Autoscaler::new(AutoscalingConfig { initial_replicas: Some(4), ..between(1, 10) });
        scaler.reconfigure(between(6, 10));
        assert_eq!(scaler.target(), 6);
        scaler.reconfigure(between(1, 2));
        assert_eq!(scaler.target(), 2);
    }

    /// A deployment whose replicas answer one request at a time and take 300 ms to start, under a load of so many requests a second.
    struct Plant {
        scaler: Autoscaler,
        clock: u64,
        service: u64,
        /// When each replica that runs is free again.
        replicas: Vec<u64>,
        starting: VecDeque<u64>,
        queued: u64,
        arrived: f64,
        busy: u64,
        targets: Vec<(u64, usize)>,
    }

    impl Plant {
        fn new(config: AutoscalingConfig, service: u64) -> Self {
            let scaler = Autoscaler::new(config);
            let replicas = vec![0; scaler.target()];
            let (targets, starting) = (vec![(0, scaler.target())], VecDeque::new());
            Plant { scaler, clock: 0, service, replicas, starting, queued: 0, arrived: 0.0, busy: 0, targets }
        }

        /// Ten milliseconds after another.
        fn run(&mut self, seconds: u64, per_second: f64) {
            for _ in 0..seconds * 100 {
                let now = self.clock;
                self.arrived += per_second / 100.0;
                self.queued += self.arrived as u64;
                self.arrived = self.arrived.fract();
                while self.starting.front().is_some_and(|ready| *ready <= now) {
                    self.starting.pop_front();
                    self.replicas.push(now);
                }
                for free in &mut self.replicas {
                    if *free <= now && self.queued > 0 {
                        self.queued -= 1;
                        *free = now + self.service;
                    }
                    self.busy += u64::from(*free > now);
                }
                if now.is_multiple_of(100) {
                    let executing = self.replicas.iter().filter(|free| **free > now).count();
                    let ongoing = self.queued as usize + executing;
                    let load = Load { ongoing, busy: self.busy as f64 / 10.0, running: self.replicas.len() };
                    self.busy = 0;
                    self.scale_to(self.scaler.target(), load);
                }
                self.clock += 10;
            }
        }

        fn scale_to(&mut self, before: usize, load: Load) {
            let target = self.scaler.observe(ms(self.clock), load);
            if target != before {
                self.targets.push((self.clock, target));
            }
            while self.replicas.len() + self.starting.len() < target {
                self.starting.push_back(self.clock + 300);
            }
            while self.replicas.len() + self.starting.len() > target {
                if self.starting.pop_back().is_none() {
                    self.replicas.pop();
                }
            }
        }

        /// How many replicas were added after some had been taken away.
        fn taken_back(&self) -> usize {
            let mut falls = self.targets.windows(2).skip_while(|pair| pair[1].1 > pair[0].1);
            falls.by_ref().map(|pair| pair[1].1.saturating_sub(pair[0].1)).sum()
        }
    }

    #[test]
    fn a_step_is_followed_within_two_seconds() {
        let mut plant = Plant::new(between(1, 100), 100);
        plant.run(10, 1.0);
        assert_eq!(plant.targets.len(), 1, "{:?}", plant.targets);
        plant.run(5, 100.0);
        let (at, enough) = plant.targets[1];
        assert!(at <= 12_000 && enough >= 10, "{:?}", plant.targets);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Under a steady load, whatever it is, the number of replicas goes up, perhaps down again once what had piled up is done, and
        /// then stays; it is enough; and when the load ends they go.
        #[test]
        fn a_step_load_brings_no_oscillation(
            service in 10..400u64, per_second in 1.0..60.0f64, min in 0..3usize, target in 0.5..4.0f64
        ) {
            let config = AutoscalingConfig { target_ongoing_requests: target, ..between(min, 80) };
            let mut plant = Plant::new(config, service);
            plant.run(3, 0.0);
            plant.run(300, per_second);
            // What is on the border between two numbers may fall on either side, once.
            prop_assert!(plant.taken_back() <= 1, "{:?}", plant.targets);
            let needed = per_second * service as f64 / 1000.0;
            prop_assert!(plant.scaler.target() as f64 >= needed.floor(), "{needed}: {:?}", plant.targets);
            let settled = plant.scaler.target();
            plant.run(60, per_second);
            prop_assert!(plant.scaler.target().abs_diff(settled) <= 1, "{:?}", &plant.targets);
            plant.run(140, 0.0);
            prop_assert_eq!(plant.scaler.target(), min);
            prop_assert!(plant.taken_back() <= 1, "{:?}", plant.targets);
        }
    }
}
