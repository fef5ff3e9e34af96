//! No process of a trial outlives us, however we die.
//!
//! One shell process beside us knows the process groups of the running trials, from a pipe that only we hold. When we die, by SIGKILL too, the
//! pipe ends and the guard kills what is left. It sits in a group of its own and ignores the terminal's signals, so that it is the last to
//! go. A command starts only after the guard has been told of it: see [`process`](super::process).

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use parking_lot::Mutex;

use crate::error::{Result, TuneError};

const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
set --
while read -r verb group; do
    case $verb in
        +) set -- "$@" "$group" ;;
        -) left=$#
           while [ "$left" -gt 0 ]; do
               [ "$1" = "$group" ] || set -- "$@" "$1"
               shift
               left=$((left - 1))
           done ;;
    esac
done
for group; do kill -s KILL -- "-$group"; done
"#;

pub(super) struct Guard {
    pipe: Mutex<Option<ChildStdin>>,
    shell: Mutex<Child>,
}

impl Guard {
    pub fn start() -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "air-tune-guard"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(TuneError::io("/bin/sh"))?;
        Ok(Self { pipe: Mutex::new(shell.stdin.take()), shell: Mutex::new(shell) })
    }

    /// Tells the guard of a group. On return it is in the pipe, which outlives us.
    pub fn watch(&self, group: i32) -> std::io::Result<()> {
        self.say(&format!("+ {group}\n"))
    }

    /// The group is gone.
    pub fn release(&self, group: i32) -> std::io::Result<()> {
        self.say(&format!("- {group}\n"))
    }

    fn say(&self, line: &str) -> std::io::Result<()> {
        match self.pipe.lock().as_mut() {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe.lock().take();
        if let Err(error) = self.shell.lock().wait() {
            tracing::warn!("the guard of the trials' processes: {error}");
        }
    }
}
