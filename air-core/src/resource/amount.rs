//! How much of something, counted so that a tenth and two tenths are exactly three tenths.

/// Parts of a unit: the finest amount that can be asked for.
const PARTS: u64 = 10_000;

/// The largest amount that can be asked for, in units.
const MOST: f64 = 1e9;

/// An amount of processors, devices or anything custom, in ten-thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Amount(u64);

impl Amount {
    pub(super) const ZERO: Self = Self(0);
    pub(super) const ONE: Self = Self(PARTS);

    /// Rounds to the nearest part; the error says what the number must be instead.
    pub(super) fn new(value: f64) -> Result<Self, &'static str> {
        if !(0.0..=MOST).contains(&value) {
            return Err("not a number from 0 to 1000000000");
        }
        let parts = (value * PARTS as f64).round() as u64;
        if parts == 0 && value > 0.0 {
            return Err("finer than 0.0001, the smallest share");
        }
        Ok(Self(parts))
    }

    pub(super) fn get(self) -> f64 {
        self.0 as f64 / PARTS as f64
    }

    /// So many whole units.
    pub(super) fn whole(units: usize) -> Self {
        Self((units as u64).saturating_mul(PARTS))
    }

    /// How many whole units it is, if it is.
    pub(super) fn as_whole(self) -> Option<usize> {
        self.0.is_multiple_of(PARTS).then_some((self.0 / PARTS) as usize)
    }

    pub(super) fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn fractions_add_exactly() {
        let sum = Amount::new(0.1).unwrap().plus(Amount::new(0.2).unwrap());
        assert_eq!(sum, Amount::new(0.3).unwrap());
        assert_eq!(sum.get(), 0.3);
        let tenths = (0..10).fold(Amount::ZERO, |sum, _| sum.plus(Amount::new(0.1).unwrap()));
        assert_eq!((tenths, tenths.as_whole()), (Amount::ONE, Some(1)));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for value in [-0.1, f64::NAN, f64::INFINITY, 2e9, 1e-5] {
            assert!(Amount::new(value).is_err(), "{value}");
        }
        assert_eq!(Amount::new(0.0), Ok(Amount::ZERO));
        assert_eq!(Amount::new(1e9).unwrap().as_whole(), Some(1_000_000_000));
        assert_eq!(Amount::new(0.5).unwrap().as_whole(), None);
    }
}
