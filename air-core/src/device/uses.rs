//! Who used memory last, so that who uses it next waits for them: on the device, not on the host.
//!
//! Work on one stream runs in order, so a stream need not wait for itself. Work on another stream is waited for where the
//! two conflict: a read for the last write, a write for the last write and every read since. Nothing here
//! calls a driver; the fences do.

/// A point in the work of a stream.
pub(crate) trait Fence: Clone + Send {
    /// Whether all work before it is done.
    fn is_done(&self) -> bool;

    /// Waits on the host until it is, or can never be.
    fn wait(&self);
}

/// Tells streams apart; never used twice in a process.
pub(crate) type StreamId = u64;

/// How memory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The uses of one piece of memory that may still go on.
#[derive(Debug)]
pub(crate) struct Uses<F> {
    written: Option<(StreamId, F)>,
    /// Since then: the last of each stream, for what comes later on it is done later.
    read: Vec<(StreamId, F)>,
}

/// So many readers are kept before those that are done are looked for.
const MANY: usize = 8;

impl<F> Default for Uses<F> {
    fn default() -> Self {
        Self { written: None, read: Vec::new() }
    }
}

impl<F: Fence> Uses<F> {
    /// What `stream` has to wait for before it uses the memory.
    pub(crate) fn before(&self, access: Access, stream: StreamId) -> Vec<F> {
        let reads = self.read.iter().filter(|_| access == Access::Write);
        self.written.iter().chain(reads).filter(|(by, _)| *by != stream).map(|(_, f)| f.clone()).collect()
    }

    /// `stream` has been given work that uses the memory, after what [`before`](Self::before) told was waited for, and `fence` follows it.
    pub(crate) fn note(&mut self, access: Access, stream: StreamId, fence: F) {
        match access {
            // It waited for the reads, so whoever waits for it does too.
            Access::Write => {
                self.read.clear();
                self.written = Some((stream, fence));
            }
            Access::Read => {
                let many = self.read.len() >= MANY;
                self.read.retain(|(by, fence)| *by != stream && !(many && fence.is_done()));
                self.read.push((stream, fence));
            }
        }
    }

    /// Whether nobody but `stream` has to be waited for before the memory is used for something else. The host, which is no
    /// stream, waits for all.
    pub(crate) fn free_for(&self, stream: Option<StreamId>) -> bool {
        self.all().all(|(by, fence)| Some(*by) == stream || fence.is_done())
    }

    /// Whether it is [`free_for`](Self::free_for) a stream without asking any fence.
    pub(crate) fn all_by(&self, stream: Option<StreamId>) -> bool {
        self.all().all(|(by, _)| Some(*by) == stream)
    }

    /// Waits on the host until no use goes on.
    pub(crate) fn wait(&self) {
        self.all().for_each(|(_, fence)| fence.wait());
    }

    fn all(&self) -> impl Iterator<Item = &(StreamId, F)> {
        self.written.iter().chain(&self.read)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;

    const STREAMS: usize = 4;

    /// A fence that is done when the test says so, and knows what it comes after: so many steps of each stream.
    #[derive(Clone, Debug, Default)]
    pub(in crate::device) struct Fake {
        after: [usize; STREAMS],
        done: Arc<AtomicBool>,
    }

    impl Fake {
        pub(in crate::device) fn finish(&self) {
            self.done.store(true, Ordering::Relaxed);
        }
    }

    impl Fence for Fake {
        fn is_done(&self) -> bool {
            self.done.load(Ordering::Relaxed)
        }

        fn wait(&self) {
            self.finish();
        }
    }

    /// Streams as the driver runs them, to the letter: what each has in its order, and what it waited for.
    #[derive(Default)]
    struct Driver {
        /// For each stream, the steps of every stream that come before what it does next.
        known: [[usize; STREAMS]; STREAMS],
        /// The steps of each stream that are surely done.
        done: [usize; STREAMS],
    }

    impl Driver {
        fn wait(&mut self, stream: usize, fence: &Fake) {
            for (known, after) in self.known[stream].iter_mut().zip(fence.after) {
                *known = (*known).max(after);
            }
        }

        /// One more step; says which and what it is fenced by.
        fn step(&mut self, stream: usize) -> (usize, Fake) {
            self.known[stream][stream] += 1;
            let fence = Fake { after: self.known[stream], done: Arc::default() };
            (self.known[stream][stream], fence)
        }

        fn finish(&mut self, fence: &Fake) {
            fence.finish();
            for (done, after) in self.done.iter_mut().zip(fence.after) {
                *done = (*done).max(after);
            }
        }

        fn is_before(&self, stream: usize, other: (usize, usize)) -> bool {
            self.known[stream][other.0] >= other.1 || self.done[other.0] >= other.1
        }
    }

    proptest! {
        /// However streams use the memory, and whatever finishes in between, no two conflicting uses can overlap.
        #[test]
        fn conflicting_uses_never_overlap(
            steps in prop::collection::vec((0..STREAMS, any::<bool>(), prop::option::of(0..64_usize)), 1..60),
        ) {
            let (mut driver, mut uses) = (Driver::default(), Uses::default());
            let mut past: Vec<(Access, usize, usize, Fake)> = Vec::new();
            for (stream, writes, finished) in steps {
                let access = if writes { Access::Write } else { Access::Read };
                for fence in uses.before(access, stream as StreamId) {
                    driver.wait(stream, &fence);
                }
                for (theirs, by, step, _) in &past {
                    if access == Access::Write || *theirs == Access::Write {
                        prop_assert!(driver.is_before(stream, (*by, *step)));
                    }
                }
                let (step, fence) = driver.step(stream);
                uses.note(access, stream as StreamId, fence.clone());
                past.push((access, stream, step, fence));
                if let Some((.., fence)) = finished.and_then(|at| past.get(at % past.len())) {
                    driver.finish(&fence.clone());
                }
                // What is free for a stream has nothing before it that it would not come after.
                for stream in 0..STREAMS {
                    if uses.free_for(Some(stream as StreamId)) {
                        prop_assert!(past.iter().all(|(_, by, step, _)| driver.is_before(stream, (*by, *step))));
                    }
                }
                if uses.free_for(None) {
                    prop_assert!(past.iter().all(|(_, by, step, _)| driver.done[*by] >= *step));
                }
            }
        }
    }

    #[test]
    fn a_stream_does_not_wait_for_itself_nor_a_reader_for_readers() {
        let mut uses = Uses::default();
        uses.note(Access::Write, 1, Fake::default());
        assert!(uses.before(Access::Write, 1).is_empty());
        assert_eq!(uses.before(Access::Read, 2).len(), 1);
        uses.note(Access::Read, 2, Fake::default());
        uses.note(Access::Read, 3, Fake::default());
        assert_eq!(uses.before(Access::Read, 4).len(), 1);
        // One event for all readers, which is what cudarc keeps, would forget stream 2 here.
        assert_eq!(uses.before(Access::Write, 1).len(), 2);
        assert!(!uses.all_by(Some(1)));
    }

    #[test]
    fn readers_that_are_done_are_forgotten() {
        let mut uses = Uses::default();
        for stream in 0..1000 {
            let fence = Fake::default();
            fence.finish();
            uses.note(Access::Read, stream, fence);
        }
        assert!(uses.read.len() <= MANY);
        assert!(uses.free_for(None));
    }
}
