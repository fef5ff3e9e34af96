//! Everything that can go wrong with workers, at random and under load; then the books are checked.
//!
//! `AIR_CHAOS_OPS` says how many messages (default 6000), `AIR_CHAOS_SEED` which run of them.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use air_core::seed::Seed;
use air_core::{
    AskError, Backoff, BoxError, Cx, Handle, HandleAsync, HandleBatch, Mailbox, Message, Pending, Runtime,
    RuntimeHandle, Spec, Strategy, Supervisor, SupervisorSpec, Worker,
};
use rand::RngExt;

const CLIENTS: usize = 4;
const IN_FLIGHT: usize = 16;
/// Longer than anything takes that does not stall, on a busy machine too.
const STALL: Duration = Duration::from_millis(300);
/// Workers found by name, started again by whoever needs them after they were killed.
const NAMED: usize = 4;

/// What the handlers counted, and what the senders were told.
struct Books {
    handled: Vec<AtomicU8>,
    told: Vec<AtomicU8>,
    lives: AtomicU64,
    /// Lets go of those who stall.
    stalls: Mutex<Vec<mpsc::Sender<()>>>,
}

/// What a sender was told; 0 is nothing.
const ANSWERED: u8 = 1;
const UNDELIVERED: u8 = 2;
const DIED: u8 = 3;
const EXPIRED: u8 = 4;
const WITHDRAWN: u8 = 5;

impl Books {
    fn handle(&self, id: usize) {
        self.handled[id].fetch_add(1, Ordering::SeqCst);
    }

    fn tell<M: Message<Reply = usize>>(&self, id: usize, outcome: Result<usize, AskError<M>>) {
        let told = match outcome {
            Ok(answer) => {
                assert_eq!(answer, id, "somebody else's answer");
                ANSWERED
            }
            Err(AskError::Undelivered { .. }) => UNDELIVERED,
            Err(AskError::Died(_)) => DIED,
            Err(AskError::Expired) => EXPIRED,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(self.told[id].swap(told, Ordering::SeqCst), 0, "one outcome each");
    }
}

struct Victim(Arc<Books>);
impl Worker for Victim {}

enum Deed {
    Work,
    Panic,
    Fail,
    LoseDevice,
    Stall(mpsc::Receiver<()>),
}

impl Deed {
    fn random(rng: &mut impl RngExt, books: &Books) -> Self {
        match rng.random_range(0..1000) {
            0..20 => Self::Panic,
            20..30 => Self::Fail,
            30..40 => Self::LoseDevice,
            40 => {
                let (release, released) = mpsc::channel();
                books.stalls.lock().unwrap().push(release);
                Self::Stall(released)
            }
            _ => Self::Work,
        }
    }
}

/// A message of each way of handling.
struct One(usize, Deed);
struct Many(usize, Deed);
struct Slow(usize, Deed);

impl Message for One {
    type Reply = usize;
}
impl Message for Many {
    type Reply = usize;
}
impl Message for Slow {
    type Reply = usize;
}

fn commit(deed: Deed, cx: &mut Cx<Victim>) {
    match deed {
        Deed::Work => {}
        Deed::Panic => panic!("chaos"),
        Deed::Fail => cx.fail("chaos"),
        Deed::LoseDevice => cx.device_lost("chaos"),
        Deed::Stall(released) => {
            let _ = released.recv();
        }
    }
}

impl Handle<One> for Victim {
    fn handle(&mut self, One(id, deed): One, cx: &mut Cx<Self>) -> Result<usize, BoxError> {
        self.0.handle(id);
        commit(deed, cx);
        Ok(id)
    }
}

impl HandleBatch<Many> for Victim {
    fn handle_batch(&mut self, batch: Vec<Many>, cx: &mut Cx<Self>) -> Vec<Result<usize, BoxError>> {
        let ids: Vec<_> = batch.iter().map(|many| many.0).collect();
        for id in &ids {
            self.0.handle(*id);
        }
        for many in batch {
            commit(many.1, cx);
        }
        ids.into_iter().map(Ok).collect()
    }
}

impl HandleAsync<Slow> for Victim {
    const GROUP: &'static str = "slow";

    fn handle_async(
        &mut self,
        Slow(id, deed): Slow,
        _: &mut Cx<Self>,
    ) -> impl Future<Output = Result<usize, BoxError>> + 'static {
        self.0.handle(id);
        async move {
            for _ in 0..id % 4 {
                tokio::task::yield_now().await;
            }
            assert!(!matches!(deed, Deed::Panic), "chaos");
            Ok(id)
        }
    }
}

struct Tree {
    fixed: Vec<Mailbox<Victim>>,
    nursery: Supervisor,
    /// All that were ever found by name.
    named: Mutex<Vec<Mailbox<Victim>>>,
}

impl Tree {
    fn grow(runtime: &Runtime, books: &Arc<Books>) -> Self {
        let under = |parent: &Supervisor, name: &'static str, strategy| {
            parent.supervisor(tough(name).strategy(strategy)).unwrap()
        };
        let root = runtime.supervisor(tough("root")).unwrap();
        let alone = under(&root, "alone", Strategy::OneForOne);
        let together = under(&alone, "together", Strategy::OneForAll);
        let rest = under(&root, "rest", Strategy::RestForOne);
        let nursery = under(&root, "nursery", Strategy::OneForOne);
        let own = |name: String| Spec::new(name).stall(STALL);
        let shared = |name: String| Spec::new(name).shared();
        let mut fixed = Vec::new();
        for n in 0..2 {
            let specs = [
                (&alone, own(format!("alone/{n}"))),
                (&alone, shared(format!("alone/shared/{n}"))),
                (&together, own(format!("together/{n}"))),
                (&rest, own(format!("rest/{n}"))),
                (&rest, shared(format!("rest/shared/{n}"))),
            ];
            for (supervisor, spec) in specs {
                fixed.push(supervisor.spawn(shape(spec), victim(books)).unwrap());
            }
        }
        Self { fixed, nursery, named: Mutex::default() }
    }

    /// One of the workers; those that are found by name may have been killed since.
    fn pick(&self, rng: &mut impl RngExt, books: &Arc<Books>) -> Mailbox<Victim> {
        let n = rng.random_range(0..self.fixed.len() + NAMED);
        if let Some(fixed) = self.fixed.get(n) {
            return fixed.clone();
        }
        let spec = Spec::new(format!("named/{n}")).stall(STALL);
        let found = self.nursery.get_or_start(shape(spec), victim(books)).unwrap();
        let mut named = self.named.lock().unwrap();
        if !named.iter().any(|known| known.same_worker(&found)) {
            named.push(found.clone());
        }
        found
    }
}

/// A shared worker that stalls would stop its neighbours: it has no limit after which it is left behind.
fn may_stall(worker: &Mailbox<Victim>) -> bool {
    !worker.name().contains("shared")
}

/// Restarts without limit and at once.
fn tough(name: &'static str) -> SupervisorSpec {
    SupervisorSpec::new(name)
        .intensity(usize::MAX, Duration::from_secs(1))
        .backoff(Backoff::NONE)
        .stop_limit(STALL)
}

fn shape(spec: Spec) -> Spec {
    spec.capacity(8).concurrency_group("slow", 3)
}

fn victim(
    books: &Arc<Books>,
) -> impl Fn(&mut Cx<Victim>) -> Result<Victim, BoxError> + Send + Sync + 'static {
    let books = Arc::clone(books);
    move |_| {
        books.lives.fetch_add(1, Ordering::SeqCst);
        Ok(Victim(Arc::clone(&books)))
    }
}

type Answer = Box<dyn FnOnce(&Books) + Send>;

fn answer<M: Message<Reply = usize>>(id: usize, ask: Pending<M>) -> Answer {
    Box::new(move |books| books.tell(id, ask.wait()))
}

fn client(seed: &Seed, ids: std::ops::Range<usize>, tree: &Tree, books: &Arc<Books>) {
    let mut rng = seed.rng();
    let mut waiting: VecDeque<(usize, Answer)> = VecDeque::new();
    for id in ids {
        if waiting.len() == IN_FLIGHT {
            waiting.pop_front().unwrap().1(books);
        }
        let worker = tree.pick(&mut rng, books);
        if worker.name().starts_with("named") && rng.random_range(0..100) == 0 {
            worker.kill();
        }
        let mailbox = match rng.random_range(0..10) {
            0 => worker.urgent(),
            1 => worker.within(Duration::from_millis(5)),
            _ => worker.clone(),
        };
        let mut deed = Deed::random(&mut rng, books);
        if matches!(deed, Deed::Stall(_)) && !may_stall(&worker) {
            deed = Deed::Work;
        }
        let ask = match rng.random_range(0..4) {
            0 => answer(id, mailbox.send_blocking(Many(id, deed))),
            1 => answer(id, mailbox.send_blocking(Slow(id, deed))),
            _ => answer(id, mailbox.send_blocking(One(id, deed))),
        };
        if rng.random_range(0..50) == 0 {
            drop(ask);
            books.told[id].store(WITHDRAWN, Ordering::SeqCst);
        } else {
            waiting.push_back((id, ask));
        }
    }
    for (_, answer) in waiting {
        answer(books);
    }
}

/// Every life was recorded, and the runtime counted every restart.
fn check_lives(runtime: &RuntimeHandle, tree: &Tree, books: &Books) {
    let named = tree.named.lock().unwrap();
    let mut restarts = 0;
    let mut lives = 0;
    for worker in tree.fixed.iter().chain(named.iter()) {
        let exits: Vec<_> = worker.exits().iter().map(|record| record.generation).collect();
        let last = worker.restarts() + 1;
        let first = last + 1 - exits.len() as u64;
        assert!(exits.iter().copied().eq(first..=last), "{}: {exits:?} of {last}", worker.name());
        assert!(worker.ended().is_some() && worker.queued() == 0);
        restarts += worker.restarts();
        lives += last;
    }
    assert_eq!(runtime.counters().restarts, restarts);
    // A life that was left behind may not have been built any more.
    let built = books.lives.load(Ordering::SeqCst);
    assert!((lives - runtime.counters().abandoned..=lives).contains(&built), "{built} of {lives}");
}

fn threads() -> BTreeSet<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| task.unwrap().file_name().into_string().unwrap()).collect()
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn whatever_happens_the_books_agree() {
    // Other tests run beside this one, so threads are counted in a process of its own.
    if std::env::var_os("AIR_CHAOS_ALONE").is_none() {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "chaos::whatever_happens_the_books_agree", "--test-threads=1"])
            .envs([("AIR_CHAOS_ALONE", "1"), ("RUST_BACKTRACE", "0")])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{}", said.lines().rev().take(40).collect::<Vec<_>>().join("\n"));
        return;
    }
    let (ops, seed) = (number("AIR_CHAOS_OPS", 6000), Seed::new(number("AIR_CHAOS_SEED", 1) as u64));
    let zeros = || (0..ops).map(|_| AtomicU8::new(0)).collect::<Vec<_>>();
    let books = Arc::new(Books {
        handled: zeros(),
        told: zeros(),
        lives: AtomicU64::new(0),
        stalls: Mutex::default(),
    });
    let before = threads();
    let runtime = Runtime::start().unwrap();
    let tree = Tree::grow(&runtime, &books);
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (seed, tree, books) = (seed.child("client", n as u64), &tree, &books);
            scope.spawn(move || client(&seed, ops * n / CLIENTS..ops * (n + 1) / CLIENTS, tree, books));
        }
    });
    // Those who stall are let go, so that the threads left behind end too.
    books.stalls.lock().unwrap().clear();
    let handle = runtime.handle();
    drop(runtime);

    let mut outcomes = [0_usize; 6];
    for id in 0..ops {
        let (handled, told) = (&books.handled[id], &books.told[id]);
        let (handled, told) = (handled.load(Ordering::SeqCst), told.load(Ordering::SeqCst));
        outcomes[usize::from(told)] += 1;
        assert!(handled <= 1, "message {id} was handled {handled} times");
        match told {
            ANSWERED => assert_eq!(handled, 1, "message {id} was answered"),
            UNDELIVERED => assert_eq!(handled, 0, "message {id} came back"),
            DIED | EXPIRED | WITHDRAWN => {}
            _ => panic!("nobody told what became of message {id}"),
        }
    }
    println!(
        "answered, undelivered, died, expired, withdrawn: {:?}; {:?}",
        &outcomes[1..],
        handle.counters()
    );
    assert!(outcomes[usize::from(ANSWERED)] > ops / 2 && outcomes[usize::from(DIED)] > 0, "{outcomes:?}");
    check_lives(&handle, &tree, &books);
    // A thread that has ended may stay listed for an instant until the kernel has let go of it.
    let began = Instant::now();
    while threads() != before && began.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    assert_eq!(threads(), before);
}
