//! Which replica takes a request. Pure.
//!
//! One that holds its model; and any that looks where none does, which then loads it. One that is held elsewhere is left to those that hold it, but
//! not for long: if they have no room by then there is work for another one that holds it too. So a model that is much asked for comes to
//! be held by as many replicas as it needs, and no request waits longer for that than this.

use std::time::Duration;

/// How long a request is left to those that hold its model.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// Whether a replica that has room takes a request that has waited so long.
pub(crate) fn takes(held_here: bool, held_elsewhere: bool, waited: Duration) -> bool {
    held_here || !held_elsewhere || waited >= PATIENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_it_goes_first_and_nobody_waits_for_long() {
        let soon = Duration::from_millis(99);
        assert!(takes(true, true, Duration::ZERO) && takes(true, false, Duration::ZERO));
        assert!(takes(false, false, Duration::ZERO), "somebody has to load it");
        assert!(!takes(false, true, soon) && takes(false, true, PATIENCE));
    }
}
