//! Threads that share the work of one caller, with a fixed division of it.
//!
//! Kernels cut their work into pieces that depend on nothing but its size and the number of threads, so results never depend on timing. The pieces follow
//! one another in less time than waking a thread takes: who has none waits awake for a moment (see [`awake`](crate::awake)) before it parks.

use std::cell::{Cell, RefCell};
use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::awake::{Awake, Patience};
use crate::error::{CoreError, Result};

/// Most threads of a team.
const MOST: usize = 256;

/// How long a thread without a piece waits awake for one: about as long as it would take to wake it.
const LONGEST: Duration = Duration::from_micros(200);

/// Runs pieces of one job on so many threads, of which the caller's is one. Cheap to clone: clones share the helpers, as do all teams of one size that
/// are made on one thread. The helpers end with the last of these.
///
/// ```
/// let team = air_core::team::Team::new(2)?;
/// let mut squares = [0; 1000];
/// let share = squares.len().div_ceil(team.count());
/// team.each(squares.chunks_mut(share).enumerate(), |(piece, squares)| {
///     for (i, square) in squares.iter_mut().enumerate() {
///         *square = (piece * share + i).pow(2);
///     }
/// });
/// assert_eq!(squares[999], 998_001);
/// # Ok::<(), air_core::CoreError>(())
/// ```
#[derive(Clone)]
pub struct Team {
    count: usize,
    helpers: Option<Arc<rayon::ThreadPool>>,
}

impl Team {
    /// A team of `count` threads.
    ///
    /// # Errors
    /// 0 or more than 256 threads, or threads that cannot be started.
    pub fn new(count: usize) -> Result<Self> {
        if count == 0 || count > MOST {
            let message = format!("threads of a team must be between 1 and {MOST}, not {count}");
            return Err(CoreError::Config { message });
        }
        if count == 1 {
            return Ok(Self::default());
        }
        TEAMS.with_borrow_mut(|teams| {
            teams.retain(|(_, helpers)| helpers.strong_count() > 0);
            let there = teams.iter().find(|(size, _)| *size == count).and_then(|(_, pool)| pool.upgrade());
            if there.is_some() {
                return Ok(Self { count, helpers: there });
            }
            let helpers = start(count - 1)?;
            teams.push((count, Arc::downgrade(&helpers)));
            Ok(Self { count, helpers: Some(helpers) })
        })
    }

    /// Its threads, with the caller's.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Calls `f` once for each piece, at the same time, and returns when all are done. The caller takes the first. A panic in a piece is the caller's, once
    /// the others are done.
    pub fn each<T: Send>(&self, pieces: impl IntoIterator<Item = T>, f: impl Fn(T) + Sync) {
        let mut pieces = pieces.into_iter();
        let Some(helpers) = &self.helpers else { return pieces.for_each(f) };
        let (first, second, f) = (pieces.next(), pieces.next(), &f);
        let Some(second) = second else { return first.into_iter().for_each(f) };
        let _awake = Awake::enter();
        let running = &AtomicUsize::new(0);
        helpers.in_place_scope(|scope| {
            for piece in iter::once(second).chain(pieces) {
                running.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move |_| {
                    f(piece);
                    running.fetch_sub(1, Ordering::Relaxed);
                    linger();
                });
            }
            let began = Instant::now();
            first.into_iter().for_each(f);
            // Only to stay awake: that the pieces are done, and their panics, is the scope's to say. They are of about one size, so what the
            // first took the others need too, from whenever they woke.
            Patience::up_to(began.elapsed().max(LONGEST)).wait(|| running.load(Ordering::Relaxed) == 0);
        });
    }
}

/// Starts the threads that help the caller.
fn start(count: usize) -> Result<Arc<rayon::ThreadPool>> {
    let helpers =
        rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("air-team-{i}")).build();
    let message = |error| format!("cannot start {count} threads: {error}");
    helpers.map(Arc::new).map_err(|error| CoreError::Config { message: message(error) })
}

thread_local! {
    // What is made on one thread takes turns on it, a network and its optimiser say, and so shares one set of helpers: each with its
    // own would only wake threads that the other's keep from their cores.
    static TEAMS: RefCell<Vec<(usize, Weak<rayon::ThreadPool>)>> = const { RefCell::new(Vec::new()) };
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::up_to(LONGEST)) };
    static LINGERS: Cell<bool> = const { Cell::new(false) };
}

/// Keeps a helper awake, after the piece it runs now, for as long as more pieces are likely to come soon.
fn linger() {
    if LINGERS.get() {
        return;
    }
    rayon::spawn(|| {
        if LINGERS.replace(true) {
            return;
        }
        let mut patience = PATIENCE.get();
        while patience.wait(|| rayon::yield_now() == Some(rayon::Yield::Executed)) {}
        PATIENCE.set(patience);
        LINGERS.set(false);
    });
}

/// The caller alone.
impl Default for Team {
    fn default() -> Self {
        Self { count: 1, helpers: None }
    }
}

/// Equal if they divide work alike.
impl PartialEq for Team {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
    }
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Team").field(&self.count).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread::{self, ThreadId};

    use parking_lot::Mutex;

    use super::*;

    /// Which threads take part, and what each piece leaves.
    fn ran(team: &Team, pieces: usize) -> (Vec<usize>, Vec<ThreadId>) {
        let mut out = vec![0; pieces];
        let who = Mutex::new(Vec::new());
        team.each(out.iter_mut().enumerate(), |(i, out)| {
            *out = i + 1;
            who.lock().push(thread::current().id());
        });
        (out, who.into_inner())
    }

    #[test]
    fn every_piece_runs_once_and_one_piece_stays_with_the_caller() {
        let team = Team::new(3).unwrap();
        for pieces in 0..7 {
            let (out, who) = ran(&team, pieces);
            assert_eq!(out, (1..=pieces).collect::<Vec<_>>());
            assert_eq!(who.len(), pieces);
            assert_eq!(who.contains(&thread::current().id()), pieces > 0);
        }
    }

    #[test]
    fn a_team_of_one_is_the_caller() {
        let (out, who) = ran(&Team::new(1).unwrap(), 5);
        assert_eq!(out, [1, 2, 3, 4, 5]);
        assert_eq!(who, [thread::current().id(); 5]);
    }

    #[test]
    fn what_one_thread_makes_shares_its_helpers_and_others_do_not() {
        let helpers = |team: &Team| team.helpers.as_ref().map(Arc::as_ptr).map(|pool| pool as usize);
        let (net, adam, wider) = (Team::new(2).unwrap(), Team::new(2).unwrap(), Team::new(3).unwrap());
        assert_eq!(helpers(&net), helpers(&adam));
        assert_ne!(helpers(&net), helpers(&wider));
        let elsewhere = thread::spawn(|| Team::new(2).unwrap()).join().unwrap();
        assert_ne!(helpers(&net), helpers(&elsewhere));
    }

    #[test]
    fn a_panic_in_a_piece_reaches_the_caller_and_the_helpers_go_on() {
        let team = Team::new(2).unwrap();
        for broken in [0, 1] {
            let outcome =
                catch_unwind(AssertUnwindSafe(|| team.each(0..2, |i| assert_ne!(i, broken, "piece {i}"))));
            assert!(outcome.is_err());
            assert_eq!(ran(&team, 4).0, [1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_count_that_makes_no_sense_is_refused() {
        for count in [0, 257] {
            let error = Team::new(count).unwrap_err().to_string();
            assert_eq!(error, format!("threads of a team must be between 1 and 256, not {count}"));
        }
    }
}
