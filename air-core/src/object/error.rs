//! [`ObjectError`]: why there is no value.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::resource::ResourceError;

/// The name of a task.
pub(crate) type Name = Cow<'static, str>;

/// Why an object has no value. Cheap to clone: everyone who depends on it gets the same cause.
///
/// [`source`](Error::source) leads from a task that could not run, by way of its arguments, to what the task that failed first
/// returned; [`root`](Self::root) goes there at once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ObjectError {
    /// The task returned this error, and so did its retries if it had any.
    Failed {
        /// The task.
        task: Cow<'static, str>,
        /// How often it was tried.
        attempts: u32,
        /// What it returned the last time.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The task panicked, and so did its retries if it had any.
    Panicked {
        /// The task.
        task: Cow<'static, str>,
        /// How often it was tried.
        attempts: u32,
        /// The last panic's message.
        message: Arc<str>,
    },
    /// The task did not end within its time limit.
    TimedOut {
        /// The task.
        task: Cow<'static, str>,
        /// Its limit, from the first time it began.
        limit: Duration,
    },
    /// The task was cancelled before it ended.
    Cancelled {
        /// The task.
        task: Cow<'static, str>,
    },
    /// The task did not run, because an argument of it has no value.
    Argument {
        /// The task.
        task: Cow<'static, str>,
        /// Why the argument has no value.
        source: Arc<ObjectError>,
    },
    /// The task cannot have the resources it asked for.
    Resources {
        /// The task.
        task: Cow<'static, str>,
        /// Why not.
        source: Arc<ResourceError>,
    },
    /// The runtime ended before the task did.
    Stopped {
        /// The task.
        task: Cow<'static, str>,
    },
    /// The value is not there within the time given to wait for it; it may come later.
    Expired {
        /// How long was waited.
        waited: Duration,
    },
    /// Every thread that tasks may have waits for a task that none of them can begin.
    Starved {
        /// How many threads these are.
        threads: usize,
    },
    /// The value could not be written to disk when memory was short. It is in memory still.
    Spill {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: Arc<std::io::Error>,
    },
    /// The value was written to disk and cannot be read back.
    Restore {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: Arc<std::io::Error>,
    },
    /// The value was on disk when the runtime that held it ended.
    Gone,
}

impl ObjectError {
    /// The error at the end of the chain of arguments: the one of the task that failed first.
    pub fn root(&self) -> &Self {
        let mut error = self;
        while let Self::Argument { source, .. } = error {
            error = source;
        }
        error
    }

    /// The task that has no result, if the error is about one.
    pub fn task(&self) -> Option<&str> {
        match self {
            Self::Failed { task, .. }
            | Self::Panicked { task, .. }
            | Self::TimedOut { task, .. }
            | Self::Cancelled { task }
            | Self::Argument { task, .. }
            | Self::Resources { task, .. }
            | Self::Stopped { task } => Some(task),
            _ => None,
        }
    }
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = |f: &mut fmt::Formatter<'_>, attempts| match attempts {
            0 | 1 => Ok(()),
            n => write!(f, ", the last of {n} times"),
        };
        match self {
            Self::Failed { task, attempts, .. } => {
                write!(f, "task `{task}` failed")?;
                times(f, *attempts)
            }
            Self::Panicked { task, attempts, message } => {
                write!(f, "task `{task}` panicked: {message}")?;
                times(f, *attempts)
            }
            Self::TimedOut { task, limit } => write!(f, "task `{task}` did not end within {limit:?}"),
            Self::Cancelled { task } => write!(f, "task `{task}` was cancelled"),
            Self::Argument { task, .. } => {
                write!(f, "task `{task}` did not run: an argument of it has no value")
            }
            Self::Resources { task, .. } => {
                write!(f, "task `{task}` did not run: it cannot have its resources")
            }
            Self::Stopped { task } => write!(f, "the runtime ended before task `{task}` did"),
            Self::Expired { waited } => write!(f, "the object was not there within {waited:?}"),
            Self::Starved { threads } => write!(
                f,
                "all {threads} task threads wait for tasks that none of them can begin; pass objects as arguments \
                 instead of waiting inside tasks, or raise `tasks.threads_max`"
            ),
            Self::Spill { path, .. } => {
                write!(
                    f,
                    "cannot spill to {}; free disk space, or raise `objects.memory_bytes`",
                    path.display()
                )
            }
            Self::Restore { path, .. } => {
                write!(f, "cannot read back what was spilled to {}", path.display())
            }
            Self::Gone => write!(f, "the object was on disk when its runtime ended"),
        }
    }
}

impl Error for ObjectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { source, .. } => Some(&**source),
            Self::Argument { source, .. } => Some(&**source),
            Self::Resources { source, .. } => Some(&**source),
            Self::Spill { source, .. } | Self::Restore { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
