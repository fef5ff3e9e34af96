//! No rank outlives us, however we die.
//!
//! One shell process beside us knows the process groups of the ranks, from a pipe that only we hold. When we die, by SIGKILL
//! too, the pipe ends and the guard kills what is left. It sits in a group of its own and ignores the terminal's signals.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
while read -r group; do
    [ "$group" != done ] || exit 0
    set -- "$@" "$group"
done
for group; do kill -s KILL -- "-$group"; done
"#;

pub(super) struct Guard {
    pipe: Option<ChildStdin>,
    shell: Child,
}

impl Guard {
    pub(super) fn start() -> std::io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "air-train-guard"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { pipe: shell.stdin.take(), shell })
    }

    /// Tells the guard of a group. On return it is in the pipe, which outlives us.
    pub(super) fn watch(&mut self, group: i32) -> std::io::Result<()> {
        self.say(&format!("{group}\n"))
    }

    fn say(&mut self, line: &str) -> std::io::Result<()> {
        match self.pipe.as_mut() {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Guard {
    /// Every group is gone by now: the guard has nothing left to do.
    fn drop(&mut self) {
        let _ = self.say("done\n");
        self.pipe.take();
        let _ = self.shell.wait();
    }
}
