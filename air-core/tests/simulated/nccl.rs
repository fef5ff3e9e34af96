//! NCCL beside the simulated driver, for its streams.
//!
//! Calls do not block; what a rank queues begins on its stream when its turn has come, and is done when all ranks it needs have begun
//! theirs. Stricter than NCCL, where ranks that queue different things hang: here the process aborts. It also aborts where a
//! communicator is used after its end, or destroyed while something is under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{Answer, CURRENT, OK, Stream, sticky, there, wrong};

const CUDA_ERROR: Answer = 1;
const INVALID_ARGUMENT: Answer = 4;
const INVALID_USAGE: Answer = 5;
const IN_PROGRESS: Answer = 7;

#[repr(C)]
#[derive(Clone, Copy)]
struct Id([u64; 16]);

#[repr(C)]
struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
    numbers: [c_int; 3],
    net_name: *const c_char,
}

/// What the ranks of one group share.
#[derive(Default)]
struct Clique {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    devices: Vec<usize>,
    /// By their number: the parts of calls of all ranks.
    rounds: BTreeMap<u64, Vec<Option<Part>>>,
    /// Messages begun, by who sends and who receives.
    sends: BTreeMap<(usize, usize), VecDeque<(u64, Part)>>,
    receives: BTreeMap<(usize, usize), VecDeque<(u64, Part)>>,
    /// Tickets of what is done.
    done: BTreeSet<(u64, usize)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Reduce { op: c_int, scatter: bool },
    Gather,
    Broadcast { root: usize },
    Send { to: usize },
    Receive { from: usize },
}

#[derive(Clone, Copy, Debug)]
struct Part {
    kind: Kind,
    from: usize,
    to: usize,
    len: usize,
    dtype: c_int,
    device: usize,
}

#[derive(Clone)]
struct Comm {
    rank: usize,
    world: usize,
    clique: Arc<Clique>,
    rounds: Arc<AtomicU64>,
    /// So often it says that it is not there yet.
    looks: Arc<AtomicU32>,
    is_aborted: Arc<AtomicBool>,
    under_way: Arc<AtomicI64>,
}

static CLIQUES: Mutex<BTreeMap<u64, Arc<Clique>>> = Mutex::new(BTreeMap::new());
static ALIVE: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());
static TICKETS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static GROUP: std::cell::RefCell<Option<Vec<(Comm, Part, *const Stream)>>> = const { std::cell::RefCell::new(None) };
}

/// Communicators that nobody has ended.
pub(super) fn left() -> usize {
    ALIVE.lock().unwrap().len()
}

fn alive(comm: *const Comm) -> Comm {
    if !ALIVE.lock().unwrap().contains(&(comm as usize)) {
        wrong("a communicator is used that is not there");
    }
    // SAFETY: it is there.
    unsafe { (*comm).clone() }
}

fn end(comm: *mut Comm, is_aborted: bool) -> Answer {
    let found = alive(comm);
    ALIVE.lock().unwrap().remove(&(comm as usize));
    if !is_aborted && found.under_way.load(SeqCst) > 0 {
        wrong("a communicator is destroyed while it is at work");
    }
    found.is_aborted.store(true, SeqCst);
    drop(found.clique.state.lock());
    found.clique.changed.notify_all();
    // SAFETY: made by `ncclCommInitRankConfig`, and taken from those alive once.
    drop(unsafe { Box::from_raw(comm) });
    OK
}

impl Comm {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.clique.state.lock().unwrap_or_else(|_| wrong("poisoned"))
    }

    /// Carries out what was queued together, in a stream's turn.
    fn perform(&self, parts: &[Part], first_round: u64) {
        let mut state = self.lock();
        if self.is_aborted.load(SeqCst) {
            return;
        }
        let mut tickets = Vec::new();
        let mut round = first_round;
        for part in parts {
            let key = match part.kind {
                Kind::Send { to } => Some((self.rank, to)),
                Kind::Receive { from } => Some((from, self.rank)),
                _ => None,
            };
            let ticket = TICKETS.fetch_add(1, SeqCst);
            if let Some(key) = key {
                let sends = matches!(part.kind, Kind::Send { .. });
                let queues = if sends { &mut state.sends } else { &mut state.receives };
                queues.entry(key).or_default().push_back((ticket, *part));
                tickets.push((u64::MAX - ticket, 0));
                state.deliver(key);
            } else {
                let world = self.world;
                let all = state.rounds.entry(round).or_insert_with(|| vec![None; world]);
                all[self.rank] = Some(*part);
                if all.iter().all(Option::is_some) {
                    let all: Vec<Part> = state.rounds.remove(&round).into_iter().flatten().flatten().collect();
                    reduce_or_copy(&all);
                    state.done.extend((0..world).map(|rank| (round, rank)));
                }
                tickets.push((round, self.rank));
                round += 1;
            }
        }
        self.clique.changed.notify_all();
        while !tickets.iter().all(|ticket| state.done.contains(ticket)) && !self.is_aborted.load(SeqCst) {
            state = self.clique.changed.wait(state).unwrap();
        }
        for ticket in tickets {
            state.done.remove(&ticket);
        }
        // What was stopped is not done later.
        if self.is_aborted.load(SeqCst) {
            let rank = self.rank;
            state.rounds.values_mut().for_each(|parts| parts[rank] = None);
            state.sends.retain(|(from, _), _| *from != rank);
            state.receives.retain(|(_, to), _| *to != rank);
        }
    }
}

impl State {
    /// Copies what has both been sent and waited for.
    fn deliver(&mut self, key: (usize, usize)) {
        let (Some(sends), Some(receives)) = (self.sends.get_mut(&key), self.receives.get_mut(&key)) else { return };
        while !sends.is_empty() && !receives.is_empty() {
            let ((sent, from), (taken, into)) = (sends.pop_front().unwrap(), receives.pop_front().unwrap());
            if from.bytes(1) != into.bytes(1) {
                wrong("a message is received that is as long as another");
            }
            from.copy_to(0, &into, 0, from.bytes(1));
            self.done.extend([(u64::MAX - sent, 0), (u64::MAX - taken, 0)]);
        }
    }
}

impl Part {
    fn bytes(&self, parts: usize) -> usize {
        let width = match self.dtype {
            0 | 1 => 1,
            6 | 9 => 2,
            2 | 3 | 7 => 4,
            4 | 5 | 8 => 8,
            _ => wrong("no such type"),
        };
        self.len * width * parts
    }

    fn copy_to(&self, start: usize, into: &Part, at: usize, len: usize) {
        there("a call's input", self.from + start, len, self.device);
        there("a call's output", into.to + at, len, into.device);
        // SAFETY: both are there; they may be one.
        unsafe { std::ptr::copy((self.from + start) as *const u8, (into.to + at) as *mut u8, len) };
    }
}

fn reduce_or_copy(all: &[Part]) {
    let one = all[0];
    if all.iter().any(|part| (part.kind, part.len, part.dtype) != (one.kind, one.len, one.dtype)) {
        wrong(&format!("ranks queued different calls: {all:?}"));
    }
    match one.kind {
        Kind::Broadcast { root } => all.iter().for_each(|part| all[root].copy_to(0, part, 0, one.bytes(1))),
        Kind::Gather => {
            for (rank, from) in all.iter().enumerate() {
                all.iter().for_each(|into| from.copy_to(0, into, rank * one.bytes(1), one.bytes(1)));
            }
        }
        Kind::Reduce { op, scatter } => match one.dtype {
            4 => reduce::<i64>(all, op, scatter, |a, n| a / n as i64, i64::wrapping_add, i64::max, i64::min),
            7 => reduce::<f32>(all, op, scatter, |a, n| a / n as f32, |a, b| a + b, f32::max, f32::min),
            8 => reduce::<f64>(all, op, scatter, |a, n| a / n as f64, |a, b| a + b, f64::max, f64::min),
            _ => wrong("a type that is not simulated is reduced"),
        },
        Kind::Send { .. } | Kind::Receive { .. } => wrong("a message is no call of all"),
    }
}

fn reduce<T: Copy>(
    all: &[Part],
    op: c_int,
    scatter: bool,
    over: fn(T, usize) -> T,
    plus: fn(T, T) -> T,
    max: fn(T, T) -> T,
    min: fn(T, T) -> T,
) {
    let (world, len) = (all.len(), all[0].len);
    let parts = if scatter { world } else { 1 };
    let values = |part: &Part| {
        there("a call's input", part.from, part.bytes(parts), part.device);
        // SAFETY: the bytes are there, and as aligned as memory of a device.
        unsafe { std::slice::from_raw_parts(part.from as *const T, len * parts) }.to_vec()
    };
    let combine = match op {
        0 | 4 => plus,
        2 => max,
        3 => min,
        _ => wrong("no such operation"),
    };
    let inputs: Vec<Vec<T>> = all.iter().map(values).collect();
    let result: Vec<T> = (0..len * parts)
        .map(|at| {
            let value = inputs[1..].iter().fold(inputs[0][at], |value, input| combine(value, input[at]));
            if op == 4 { over(value, world) } else { value }
        })
        .collect();
    for (rank, part) in all.iter().enumerate() {
        let mine = if scatter { &result[rank * len..][..len] } else { &result[..] };
        there("a call's output", part.to, part.bytes(1), part.device);
        // SAFETY: the bytes are there.
        unsafe { std::ptr::copy_nonoverlapping(mine.as_ptr(), part.to as *mut T, len) };
    }
}

fn add(comm: *const Comm, stream: *const Stream, kind: Kind, from: usize, to: usize, len: usize, dtype: c_int) -> Answer {
    let comm = alive(comm);
    // SAFETY: a stream of the driver beside this.
    let device = unsafe { (*stream).device };
    if comm.lock().devices[comm.rank] != device {
        return INVALID_USAGE;
    }
    let part = Part { kind, from, to, len, dtype, device };
    GROUP.with_borrow_mut(|group| match group {
        Some(group) => group.push((comm, part, stream)),
        None => wrong("a call outside a group, which might block"),
    });
    IN_PROGRESS
}

driver! {
    fn ncclGetVersion(version: *mut c_int) { *version = 22_800; Ok(OK) }
    fn ncclGetUniqueId(id: *mut Id) {
        *id = Id([TICKETS.fetch_add(1, SeqCst); 16]);
        Ok(OK)
    }
    fn ncclCommInitRankConfig(comm: *mut *mut Comm, world: c_int, id: Id, rank: c_int, config: *const Config) {
        let config = &*config;
        if (config.size, config.magic, config.blocking) != (40, 0xcafe_beef, 0) {
            return Err(INVALID_ARGUMENT);
        }
        let clique = Arc::clone(CLIQUES.lock().unwrap().entry(id.0[15]).or_default());
        let device = CURRENT.get().unwrap_or_else(|| wrong("no device is current"));
        let mut state = clique.state.lock().unwrap();
        if state.devices.contains(&device) || state.devices.len() != rank as usize {
            return Err(INVALID_USAGE);
        }
        state.devices.push(device);
        drop(state);
        let made = Comm {
            rank: rank as usize,
            world: world as usize,
            clique,
            rounds: Arc::default(),
            looks: Arc::new(AtomicU32::new(3)),
            is_aborted: Arc::default(),
            under_way: Arc::default(),
        };
        *comm = Box::into_raw(Box::new(made));
        ALIVE.lock().unwrap().insert(*comm as usize);
        Ok(IN_PROGRESS)
    }
    fn ncclCommGetAsyncError(comm: *const Comm, state: *mut Answer) {
        let comm = alive(comm);
        let wait = comm.lock().devices.len() < comm.world
            || comm.looks.fetch_update(SeqCst, SeqCst, |looks| looks.checked_sub(1)).is_ok();
        *state = if wait { IN_PROGRESS } else { OK };
        Ok(OK)
    }
    fn ncclCommAbort(comm: *mut Comm) { Ok(end(comm, true)) }
    fn ncclCommDestroy(comm: *mut Comm) { Ok(end(comm, false)) }
    fn ncclGroupStart() {
        if GROUP.replace(Some(Vec::new())).is_some() {
            wrong("a group in a group");
        }
        Ok(OK)
    }
    fn ncclGroupEnd() {
        let mut queued = GROUP.take().unwrap_or_else(|| wrong("no group is open")).into_iter().peekable();
        let Some((comm, _, stream)) = queued.peek().cloned() else { return Ok(IN_PROGRESS) };
        let parts: Vec<Part> = queued.map(|(_, part, _)| part).collect();
        let rounds = parts.iter().filter(|part| !matches!(part.kind, Kind::Send { .. } | Kind::Receive { .. })).count();
        let first_round = comm.rounds.fetch_add(rounds as u64, SeqCst);
        comm.looks.store(2, SeqCst);
        comm.under_way.fetch_add(1, SeqCst);
        // Where the device is lost it does not begin; nor does it where it has been aborted.
        struct UnderWay(Comm);
        impl Drop for UnderWay {
            fn drop(&mut self) {
                self.0.under_way.fetch_sub(1, SeqCst);
            }
        }
        let under_way = UnderWay(comm);
        let device = (*stream).device;
        (*stream).queue(move |_| under_way.0.perform(&parts, first_round));
        Ok(if sticky(device) == OK { IN_PROGRESS } else { CUDA_ERROR })
    }
    fn ncclAllReduce(from: usize, to: usize, len: usize, dtype: c_int, op: c_int, comm: *const Comm, stream: *const Stream) {
        Ok(add(comm, stream, Kind::Reduce { op, scatter: false }, from, to, len, dtype))
    }
    fn ncclReduceScatter(from: usize, to: usize, len: usize, dtype: c_int, op: c_int, comm: *const Comm, stream: *const Stream) {
        Ok(add(comm, stream, Kind::Reduce { op, scatter: true }, from, to, len, dtype))
    }
    fn ncclAllGather(from: usize, to: usize, len: usize, dtype: c_int, comm: *const Comm, stream: *const Stream) {
        Ok(add(comm, stream, Kind::Gather, from, to, len, dtype))
    }
    fn ncclBroadcast(from: usize, to: usize, len: usize, dtype: c_int, root: c_int, comm: *const Comm, stream: *const Stream) {
        Ok(add(comm, stream, Kind::Broadcast { root: root as usize }, from, to, len, dtype))
    }
    fn ncclSend(from: usize, len: usize, dtype: c_int, to: c_int, comm: *const Comm, stream: *const Stream) {
        Ok(add(comm, stream, Kind::Send { to: to as usize }, from, 0, len, dtype))
    }
    fn ncclRecv(to: usize, len: usize, dtype: c_int, from: c_int, comm: *const Comm, stream: *const Stream) {
        Ok(add(comm, stream, Kind::Receive { from: from as usize }, 0, to, len, dtype))
    }
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(_comm: *const Comm) -> *const c_char {
    c"simulated".as_ptr()
}
