//! Workers and supervision.
#![allow(clippy::unwrap_used)]

mod concurrent;
mod group;
mod mailbox;
mod messages;
mod names;
mod runtime;
mod supervision;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use air_core::{
    AskError, Backoff, BoxError, Clock, Cx, Exit, GroupSpec, Handle, Mailbox, Message, Reason, Restart,
    Runtime, RuntimeConfig, Spec, Strategy, SupervisorSpec, Worker, WorkerPhase,
};

use super::probe::*;
