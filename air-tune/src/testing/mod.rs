//! Suites that every searcher and every scheduler passes; run them on your own.
//!
//! ```
//! use air_tune::search::BasicVariants;
//! use air_tune::testing;
//! testing::searcher(|space, seed| Box::new(BasicVariants::new(space, 50, seed).unwrap()));
//! ```

mod scheduler;
mod searcher;

pub use scheduler::scheduler;
pub use searcher::{searcher, space};
