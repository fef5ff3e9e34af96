//! One thread, its connections and its clock.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use super::alarm::Alarm;
use super::answer::Answer;
use super::config::{LoadConfig, LoadError};
use super::connection::{Connection, Failure, Outcome};
use super::report::{LoadReport, Tally};
use super::schedule::Schedule;
use super::target::Target;

/// How long before a request is due the thread stops sleeping: sleepers wake late.
const AWAKE: Duration = Duration::from_micros(200);
/// How often time limits are looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long the first connections may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
const WAKE: Token = Token(usize::MAX);

pub(super) fn run(config: &LoadConfig, target: &Target) -> Result<LoadReport, LoadError> {
    let io = |what| move |source| LoadError::Io { what, source };
    let mut poll = Poll::new().map_err(io("cannot poll connections"))?;
    let waker = Waker::new(poll.registry(), WAKE).map_err(io("cannot poll connections"))?;
    let alarm = Alarm::new(waker).map_err(io("cannot start a thread"))?;
    let mut connections = Vec::with_capacity(config.connections);
    for index in 0..config.connections {
        let made = TcpStream::connect_timeout(&target.addr, CONNECT).and_then(|stream| {
            stream.set_nodelay(true)?;
            Connection::new(stream, target, poll.registry(), Token(index))
        });
        let refused = |source| LoadError::Connect { number: index + 1, addr: target.addr, source };
        connections.push(made.map_err(refused)?);
    }
    let schedule = Schedule::new(config.rate, Duration::from_secs_f64(config.duration_s), config.count);
    let mut events = Events::with_capacity(1024);
    let mut engine = Engine {
        config,
        target,
        schedule,
        start: Instant::now(),
        idle: (0..connections.len()).collect(),
        connections,
        next: 0,
        tally: Tally::new(),
        buffer: vec![0; 64 << 10],
    };
    let mut next_tick = TICK;
    loop {
        engine.dispatch(&poll);
        if engine.is_done() {
            break;
        }
        let wait = engine.wait(&alarm);
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.map_err(io("cannot poll connections"))?,
        }
        for event in &events {
            let Token(index) = event.token();
            if index < engine.connections.len() {
                engine.handle(index, event);
                // What has become due meanwhile does not wait for the other events.
                engine.dispatch(&poll);
            }
        }
        let now = engine.now();
        if now >= next_tick {
            next_tick = now + TICK;
            engine.expire(now);
        }
    }
    let took = engine.now();
    Ok(engine.tally.report(config, schedule.total(), took))
}

struct Engine<'a> {
    config: &'a LoadConfig,
    target: &'a Target,
    schedule: Schedule,
    start: Instant,
    connections: Vec<Connection>,
    /// Connections without a request, the one that has waited longest first: so all are used.
    idle: VecDeque<usize>,
    /// The request that is due next.
    next: u64,
    tally: Tally,
    buffer: Vec<u8>,
}

impl Engine<'_> {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn is_done(&self) -> bool {
        self.next == self.schedule.total() && self.idle.len() == self.connections.len()
    }

    /// Starts what is due, as far as there are connections for it.
    fn dispatch(&mut self, poll: &Poll) {
        while self.next < self.schedule.total() {
            let (due, now) = (self.schedule.due(self.next), self.now());
            if due > now {
                break;
            }
            if now.saturating_sub(due) > self.config.timeout() {
                self.tally.not_sent();
                self.next += 1;
                continue;
            }
            let Some(index) = self.idle.pop_front() else { break };
            self.next += 1;
            let begun = self.connections[index].begin(due, now, self.target, poll.registry(), Token(index));
            self.settle(index, begun);
        }
    }

    fn handle(&mut self, index: usize, event: &Event) {
        if event.is_writable() {
            let written = self.connections[index].write(self.target);
            self.settle(index, written);
        }
        let ends = event.is_read_closed() || event.is_error();
        if event.is_readable() || ends {
            let read = self.connections[index].read(&mut self.buffer, ends, self.target, self.config);
            self.settle(index, read);
        }
    }

    /// Counts what came of a request, and frees its connection.
    fn settle(&mut self, index: usize, outcome: Outcome) {
        let counted: Result<Answer, Failure> = match outcome {
            Outcome::Pending => return,
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Failed(failure) => Err(failure),
        };
        let now = self.now();
        let Some(request) = self.connections[index].underway.take() else { return };
        self.idle.push_back(index);
        match counted {
            Ok(answer) => {
                let (latency, service) = (now.saturating_sub(request.due), now.saturating_sub(request.sent));
                self.tally.answered(answer, latency, service);
            }
            Err(failure) => self.tally.failed(failure),
        }
    }

    /// Gives up what has run out of time.
    fn expire(&mut self, now: Duration) {
        let limit = self.config.timeout();
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if connection.underway.is_some_and(|request| now.saturating_sub(request.due) > limit) {
                connection.underway = None;
                connection.close();
                self.idle.push_back(index);
                self.tally.timed_out();
            }
        }
    }

    /// How long the poll may sleep.
    fn wait(&self, alarm: &Alarm) -> Duration {
        if self.next == self.schedule.total() || self.idle.is_empty() {
            return TICK;
        }
        let due = self.schedule.due(self.next);
        let left = due.saturating_sub(self.now());
        if left <= AWAKE {
            return Duration::ZERO;
        }
        if left <= 2 * TICK {
            alarm.set(self.start + due.saturating_sub(AWAKE));
        }
        TICK
    }
}
