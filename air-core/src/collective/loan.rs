//! [`Loans`]: slices of one rank that the other ranks read or write where they lie.
//!
//! A borrowed slice is lent for as long as its owner runs a closure, and the lock of each desk is what makes that safe:
//! who uses what lies on a desk holds its lock, and the owner clears all of its desks before the closure's caller has the
//! slice back. So in the end it waits for whoever still reads or writes, and after that nobody can. The loom model in
//! `tests/it/collective_loom.rs` explores the interleavings.
#![allow(unsafe_code)]

use super::sync::{Mutex, MutexGuard, PoisonError};

/// A desk for each owner and each borrower: what the one lends to the other now.
#[derive(Debug)]
pub struct Loans {
    desks: Box<[Box<[Desk]>]>,
}

/// Alone on its cache line (and on the neighbour that is fetched with it).
#[derive(Debug)]
#[repr(align(128))]
struct Desk(Mutex<Option<Part>>);

/// Memory that stays valid while it lies on a desk.
#[derive(Debug)]
enum Part {
    /// To be read, also by others at the same time.
    Read(*const [u8]),
    /// To be read and written by one borrower only.
    Write(*mut [u8]),
}

// SAFETY: the pointers are made of slices of bytes, which may be used from any thread; that they are used only while
// valid, and a writable one by one thread at a time, is what `Loans` is for.
unsafe impl Send for Part {}

/// What lies on a desk, in use: until this is dropped its owner waits.
#[derive(Debug)]
pub struct Borrowed<'a>(MutexGuard<'a, Option<Part>>);

impl Loans {
    /// Desks for `world` ranks, with nothing on them.
    pub fn new(world: usize) -> Self {
        let desks = || (0..world).map(|_| Desk(Mutex::new(None))).collect();
        Self { desks: (0..world).map(|_| desks()).collect() }
    }

    /// While `during` runs, every rank may read `values`.
    pub fn to_read<R>(&self, owner: usize, values: &[u8], during: impl FnOnce() -> R) -> R {
        let loan = Loan { desks: &self.desks[owner] };
        for desk in loan.desks {
            *desk.lock() = Some(Part::Read(values));
        }
        during()
    }

    /// While `during` runs, every rank may read and write its part of `values`: as many bytes as `len_of` says, one part
    /// after another in the order of the ranks.
    pub fn to_write<R>(
        &self,
        owner: usize,
        values: &mut [u8],
        len_of: impl Fn(usize) -> usize,
        during: impl FnOnce() -> R,
    ) -> R {
        let loan = Loan { desks: &self.desks[owner] };
        let mut rest = values;
        for (rank, desk) in loan.desks.iter().enumerate() {
            let (part, others) = rest.split_at_mut(len_of(rank).min(rest.len()));
            rest = others;
            *desk.lock() = Some(Part::Write(part));
        }
        during()
    }

    /// What `owner` lends to `rank`; nothing where it lends nothing, or no more.
    pub fn borrow(&self, owner: usize, rank: usize) -> Option<Borrowed<'_>> {
        let on_desk = self.desks[owner][rank].lock();
        on_desk.is_some().then_some(Borrowed(on_desk))
    }
}

impl Borrowed<'_> {
    pub fn bytes(&self) -> &[u8] {
        match *self.0 {
            // SAFETY: it lies on the desk, so `to_read` has not returned, which borrows the slice until it does, and clears the
            // desk before: under the lock, which this holds. Nobody writes to a slice that is borrowed to be read.
            Some(Part::Read(bytes)) => unsafe { &*bytes },
            // SAFETY: as above, of `to_write`. Only this desk has this part, and its lock is held; `&self` allows no writing.
            Some(Part::Write(bytes)) => unsafe { &*bytes },
            None => &[],
        }
    }

    /// Empty where the loan is to be read only.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match *self.0 {
            // SAFETY: as in `bytes`; `&mut self` keeps out other uses through this guard, and the lock all others.
            Some(Part::Write(bytes)) => unsafe { &mut *bytes },
            _ => &mut [],
        }
    }
}

/// Ends a loan when dropped, also by a panic.
struct Loan<'a> {
    desks: &'a [Desk],
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        for desk in self.desks {
            *desk.lock() = None;
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Option<Part>> {
        // A panic while it was held leaves a part that is as valid as before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
