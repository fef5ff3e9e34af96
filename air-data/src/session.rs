//! [`Session`]: the engine as a value. Its threads, its memory budget, its settings.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use air_core::RuntimeHandle;
use datafusion::common::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion::functions::unicode::planner::UnicodeFunctionPlanner;
use datafusion::logical_expr::planner::ExprPlanner;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::task::JoinHandle;

use crate::error::{DataError, Place, Result};
use crate::memory::{Budget, BudgetPool, SpillFiles, suit};
use crate::plan::{ClusterGroups, Merges, Planner, RangeSorts, ReadInPieces, logical_rules, rules};
use crate::pool::Workers;
use crate::source::{StorageConfig, Stores};

/// The stack of a thread: the engine follows nested plans and expressions with nested calls. What is not used takes no memory.
const STACK_BYTES: usize = 32 << 20;

/// The side of a join that is held as a whole by every core, at most. Building its table keeps one core busy, 0.1 us a row.
const HELD_BYTES: usize = 128 << 20;
const HELD_ROWS: usize = 2 << 20;

/// Rows in a batch under the smallest of budgets.
const FEWEST_ROWS: usize = 64;

/// The budget from which on sorts are tried in memory, in a quarter of it.
const SORTED_IN_MEMORY_FROM: u64 = 1 << 30;

/// Settings of a [`Session`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// Threads that compute, and how many blocks are worked on at once; 0 means one for each core.
    pub parallelism: usize,
    /// Threads that wait for remote storage.
    pub io_threads: usize,
    /// The memory budget in bytes: queues wait, and sorts, joins, aggregations and `repartition` spill, rather than go past it. 0 means
    /// the process's own, [`Budget::shared`], which is half of the memory there is.
    pub memory_limit_bytes: u64,
    /// Where to spill; the system's temporary directory when absent.
    pub spill_dir: Option<PathBuf>,
    /// How object stores are reached: credentials, endpoints, how often requests are tried again.
    pub storage: StorageConfig,
    /// Rows in one batch inside the engine; fewer under a small budget, in which many batches have to find room.
    pub batch_rows: usize,
    /// Bytes that may wait, already computed, ahead of a consumer that takes blocks in order.
    pub prefetch_bytes: usize,
    /// What the names of its threads begin with.
    pub thread_name: String,
    /// Whether a long operation shows a progress bar when stderr is a terminal.
    pub progress: bool,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            parallelism: 0,
            io_threads: 2,
            memory_limit_bytes: 0,
            spill_dir: None,
            storage: StorageConfig::default(),
            batch_rows: 8192,
            prefetch_bytes: 64 << 20,
            thread_name: "air-data".to_owned(),
            progress: true,
        }
    }
}

impl SessionConfig {
    /// Checks every field's range.
    ///
    /// # Errors
    /// [`DataError::Config`] names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, field, reason: &str| {
            if ok { Ok(()) } else { Err(DataError::Config { field, reason: reason.to_owned() }) }
        };
        check(self.parallelism <= 4096, "parallelism", "at most 4096")?;
        check((1..=256).contains(&self.io_threads), "io_threads", "between 1 and 256")?;
        check((1..=1 << 24).contains(&self.batch_rows), "batch_rows", "between 1 and 16777216")?;
        check(self.prefetch_bytes > 0, "prefetch_bytes", "at least 1")?;
        self.storage.validate()
    }

    /// The threads to compute with, the cores counted when the field is 0.
    fn threads(&self) -> usize {
        match self.parallelism {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        }
    }
}

/// The engine as a value: its threads, its memory budget, its settings.
///
/// A clone is another handle on the same engine. When the last handle goes, its threads end. Datasets hold a handle,
/// so a session lives as long as its datasets do.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    config: SessionConfig,
    parallelism: usize,
    budget: Budget,
    context: SessionContext,
    stores: Arc<Stores>,
    compute: Option<Runtime>,
    io: Option<Runtime>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Session {
    /// Starts an engine.
    ///
    /// # Errors
    /// [`DataError::Config`] for a setting out of range, [`DataError::Engine`] where threads or the spill directory cannot be had.
    pub fn new(config: SessionConfig) -> Result<Self> {
        Self::start(config, None)
    }

    /// Starts an engine whose worker pools live in a runtime that is there already, and share its processors and GPUs with the other
    /// workers in it. Otherwise an engine starts a runtime of its own with its first pool.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_runtime(config: SessionConfig, runtime: RuntimeHandle) -> Result<Self> {
        Self::start(config, Some(runtime))
    }

    fn start(config: SessionConfig, runtime: Option<RuntimeHandle>) -> Result<Self> {
        config.validate()?;
        let parallelism = config.threads();
        let threads = |threads, name: &str| {
            Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name(name)
                .thread_stack_size(STACK_BYTES)
                .enable_all()
                .build()
                .map_err(|e| DataError::Engine(Box::new(e.into())))
        };
        let compute = threads(parallelism, &config.thread_name)?;
        let io = threads(config.io_threads, &format!("{}-io", config.thread_name))?;
        let stores = Arc::new(Stores::new(io.handle().clone(), config.storage.clone()));

        let budget = match config.memory_limit_bytes {
            0 => Budget::shared(),
            bytes => Budget::new(bytes),
        };
        suit(budget.limit_bytes());
        let limit = usize::try_from(budget.limit_bytes()).unwrap_or(usize::MAX);
        let share = limit / parallelism;
        let spill = SpillFiles::new(config.spill_dir.as_ref(), share).map_err(DataError::from)?;
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Custom(Arc::new(spill)));
        let env = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(BudgetPool::new(budget.clone())))
            .with_disk_manager_builder(disk)
            .with_object_store_registry(stores.clone());
        let workers = Arc::new(Workers::new(runtime, config.prefetch_bytes));
        let settings = engine_settings(&config, parallelism, limit).with_extension(workers);
        let mut state = SessionStateBuilder::new()
            .with_config(settings)
            .with_runtime_env(env.build_arc().map_err(DataError::from)?)
            .with_default_features()
            .with_optimizer_rules(logical_rules());
        if let Some(planners) = state.expr_planners() {
            planners.extend(syntax());
        }
        state = state.with_physical_optimizer_rules(rules(limit, config.memory_limit_bytes > 0));
        if budget.limit_bytes() >= SORTED_IN_MEMORY_FROM {
            state = state.with_physical_optimizer_rule(Arc::new(RangeSorts { most_bytes: limit / 4 }));
        }
        let state = state
            .with_query_planner(Arc::new(Planner))
            .with_physical_optimizer_rule(Arc::new(ReadInPieces {
                window: parallelism + 1,
                bytes: config.prefetch_bytes,
            }))
            .with_physical_optimizer_rule(Arc::new(ClusterGroups { budget: limit }))
            .with_physical_optimizer_rule(Arc::new(Merges {
                window: parallelism + 1,
                bytes: config.prefetch_bytes,
            }))
            .build();
        let context = SessionContext::new_with_state(state);
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                parallelism,
                budget,
                context,
                stores,
                compute: Some(compute),
                io: Some(io),
            }),
        })
    }

    /// The session behind the functions at the root of this crate, started with default settings on first use.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn shared() -> Result<Self> {
        static SHARED: OnceLock<std::result::Result<Session, Arc<DataError>>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::new(SessionConfig::default()).map_err(DataError::shared))
            .clone()
            .map_err(DataError::Shared)
    }

    /// The settings it was started with.
    pub fn config(&self) -> &SessionConfig {
        &self.inner.config
    }

    /// How many blocks are worked on at once.
    pub fn parallelism(&self) -> usize {
        self.inner.parallelism
    }

    /// DataFusion's own context, for what this crate does not wrap: functions, catalogs, settings.
    pub fn context(&self) -> &SessionContext {
        &self.inner.context
    }

    /// The memory budget that its datasets draw on, and how much of it is in use.
    pub fn budget(&self) -> &Budget {
        &self.inner.budget
    }

    pub(crate) fn stores(&self) -> &Arc<Stores> {
        &self.inner.stores
    }

    pub(crate) fn compute(&self) -> Result<&Handle> {
        self.inner.compute.as_ref().map(Runtime::handle).ok_or_else(stopped)
    }

    /// Runs `work` on the session's threads and blocks the caller until it is done. It may be called from anywhere:
    /// from plain code, from inside any tokio runtime, and from a closure that a dataset runs.
    pub(crate) fn block_on<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (done, result) = std::sync::mpsc::sync_channel(1);
        let work = AssertUnwindSafe(work).catch_unwind();
        self.compute()?.spawn(async move {
            let _ = done.send(work.await.unwrap_or_else(|panic| Err(panicked(&*panic))));
        });
        blocking(|| result.recv()).unwrap_or_else(|_| Err(stopped()))
    }

    /// Runs `work` on the session's threads and waits for it without blocking. Dropping the future stops the work.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let work = AssertUnwindSafe(work).catch_unwind();
        let mut task = AbortOnDrop(self.compute()?.spawn(work));
        match (&mut task.0).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(panicked(&*panic)),
            Err(_) => Err(stopped()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for runtime in [self.compute.take(), self.io.take()].into_iter().flatten() {
            // The last handle may go on a thread of a runtime, which must not wait for threads to end.
            if Handle::try_current().is_ok() {
                runtime.shutdown_background();
            } else {
                drop(runtime);
            }
        }
    }
}

/// A task that ends when its handle is dropped.
pub(crate) struct AbortOnDrop<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits in `f`, first telling a surrounding multi-threaded runtime to move its other work off this thread.
pub(crate) fn blocking<T>(f: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(f),
        _ => f(),
    }
}

/// What a caught panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

fn panicked(panic: &(dyn Any + Send)) -> DataError {
    DataError::Panicked {
        op: "the engine".to_owned(),
        place: Place::default(),
        message: panic_message(panic),
    }
}

fn stopped() -> DataError {
    DataFusionError::Execution("the session has ended".to_owned()).into()
}

/// What `extract(year from d)`, `substring(s from 1)` and the like mean: the functions are there, only this lies behind features of the engine.
fn syntax() -> [Arc<dyn ExprPlanner>; 2] {
    [Arc::new(DatetimeFunctionPlanner), Arc::new(UnicodeFunctionPlanner)]
}

/// DataFusion's settings under ours.
fn engine_settings(
    config: &SessionConfig,
    parallelism: usize,
    limit: usize,
) -> datafusion::prelude::SessionConfig {
    let mut settings = datafusion::prelude::SessionConfig::new()
        .with_target_partitions(parallelism)
        .with_batch_size(batch_rows(config.batch_rows, limit, parallelism))
        .with_information_schema(true)
        // Blocks keep their order: no round robin between operators, no work stealing between files.
        .with_round_robin_repartition(false);
    let options = settings.options_mut();
    options.execution.enable_file_stream_work_stealing = false;
    options.execution.parquet.pushdown_filters = true;
    // A view keeps its whole buffer alive: bytes would be counted again and again.
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // In one process all cores can look into one table: a side of up to this is built once, and the rows of the other need not be dealt
    // by their keys, which copies each of them.
    options.optimizer.hash_join_single_partition_threshold = HELD_BYTES.min(limit / 16);
    options.optimizer.hash_join_single_partition_threshold_rows = HELD_ROWS;
    // A sort sets this much aside in each partition for its merge, which a small budget has not got; and the sorts below joins do so at once,
    // as do those of all blocks, of which there may be many more than threads.
    let aside = &mut options.execution.sort_spill_reservation_bytes;
    *aside = (*aside).min(limit / (64 * parallelism));
    settings
}

/// Rows in a batch: as many as were asked for, and so few that 64 batches with rows of 256 bytes fit into each partition's share of the budget. The
/// merge of a sort that spilled holds four batches of each run that it reads, and a budget in which it cannot hold two runs fails.
fn batch_rows(asked: usize, limit: usize, parallelism: usize) -> usize {
    asked.min((limit / (64 * 256 * parallelism)).max(FEWEST_ROWS))
}
