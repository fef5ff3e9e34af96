use serde::{Deserialize, Serialize};

/// The most items a channel can be asked to hold. Its slots are allocated when it is made.
pub const MAX_ITEMS: usize = 1 << 20;

/// How much a channel holds before its senders wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// Most items in the channel; brought into `1..=MAX_ITEMS`.
    pub items: usize,
    /// Most bytes in the channel, by [`Weigh`](super::Weigh). A heavier item is let in alone, so that
    /// it can pass at all.
    pub bytes: usize,
}

impl Limit {
    /// Bounded in items only.
    pub const fn items(items: usize) -> Limit {
        Limit { items, bytes: usize::MAX }
    }

    pub(super) fn in_range(self) -> Limit {
        Limit { items: self.items.clamp(1, MAX_ITEMS), bytes: self.bytes }
    }
}

impl Default for Limit {
    /// 64 items, deep enough that waking a thread is paid once for many; 256 MiB.
    fn default() -> Limit {
        Limit { items: 64, bytes: 256 << 20 }
    }
}
