//! A data set four times the budget is sorted, shuffled, grouped and joined, right and within bounds of resident memory.

#[path = "../../examples/out_of_core/work.rs"]
mod work;

use std::process::Command;

use air_data::{Session, SessionConfig};
use work::{ROW_BYTES, Work};

const BUDGET: u64 = 32 << 20;

fn session(budget: u64) -> Session {
    Session::new(SessionConfig {
        parallelism: 2,
        memory_limit_bytes: budget,
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap()
}

/// The most memory that was resident, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn four_times_the_budget_is_worked_on_within_it() {
    // What is resident is the process's, in which other tests run.
    let Ok(name) = std::env::var("AIR_TEST_WORK") else {
        for work in Work::ALL {
            let run = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "out_of_core::four_times_the_budget_is_worked_on_within_it", "--nocapture"])
                .env("AIR_TEST_WORK", work.name())
                // What the system's allocator keeps of memory that was given back is not what is meant.
                .envs([("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "32768")])
                .envs([("MALLOC_TRIM_THRESHOLD_", "65536"), ("MALLOC_TOP_PAD_", "0")])
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&run.stdout);
            assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
            println!("{told}");
        }
        return;
    };
    let work = Work::ALL.into_iter().find(|work| work.name() == name).unwrap();
    // The program itself, which the budget says nothing about: all that this work runs of it, with next to no rows.
    work.run(&session(BUDGET), 5000).unwrap();
    let before = peak();
    let session = session(BUDGET);
    let began = std::time::Instant::now();
    work.run(&session, 4 * BUDGET / ROW_BYTES).unwrap();
    let more = peak() - before;
    println!(
        "{name}: {before} bytes before, {more} more in {:?}, {:?}",
        began.elapsed(),
        session.budget().usage()
    );
    assert!(more <= BUDGET * 13 / 10, "{name}: {more} bytes more than the {before} of the program");
    assert_eq!(session.budget().usage().in_use_bytes, 0);
}

/// Budgets that hold a few batches: the engine's merge needs room for two runs at least, whatever the budget.
#[test]
fn a_budget_of_a_few_mebibytes_does() {
    for mebibytes in [1, 2, 4, 8] {
        let session = session(mebibytes << 20);
        for work in Work::ALL {
            let rows = 4 * (mebibytes << 20) / ROW_BYTES;
            work.run(&session, rows)
                .unwrap_or_else(|error| panic!("{} in {mebibytes} MiB: {error}", work.name()));
        }
    }
}
