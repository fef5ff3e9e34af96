//! The loans by themselves. Apart from `loan.rs`, which the loom model compiles.

use super::loan::{Borrowed, Loans};

#[test]
fn what_is_lent_is_written_where_it_lies_and_then_taken_back() {
    let loans = Loans::new(3);
    let mut values = [0_u8; 7];
    loans.to_write(
        1,
        &mut values,
        |rank| rank + 2,
        || {
            for rank in 0..3_usize {
                let mut part = loans.borrow(1, rank).unwrap_or_else(|| unreachable!("rank {rank} has none"));
                assert_eq!(part.bytes().len(), if rank == 2 { 2 } else { rank + 2 }, "no more than there is");
                part.bytes_mut().fill(rank as u8 + 1);
            }
            assert!(loans.borrow(0, 1).is_none(), "others lend nothing");
        },
    );
    assert_eq!(values, [1, 1, 2, 2, 2, 3, 3]);
    assert!((0..3).all(|rank| loans.borrow(1, rank).is_none()));
}

#[test]
fn what_is_lent_to_read_is_not_written() {
    let loans = Loans::new(2);
    loans.to_read(0, &[7, 8], || {
        let mut ours = loans.borrow(0, 0);
        let theirs = loans.borrow(0, 1);
        assert_eq!(theirs.as_ref().map(Borrowed::bytes), Some(&[7, 8][..]));
        assert_eq!(ours.as_mut().map(Borrowed::bytes_mut), Some(&mut [][..]));
    });
    assert!(loans.borrow(0, 1).is_none());
}

#[test]
fn a_panic_ends_the_loan() {
    let loans = Loans::new(2);
    let lent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // Without a message on standard error, unlike `panic!`.
        loans.to_read(0, &[1], || std::panic::resume_unwind(Box::new("told to")));
    }));
    assert!(lent.is_err());
    assert!(loans.borrow(0, 1).is_none());
}
