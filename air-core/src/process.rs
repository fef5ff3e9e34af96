//! Programs run as process groups of their own, none of which outlives us, however we die.
//!
//! One shell process beside us, the [`Guard`], knows the groups that run, from a pipe that only we hold. When we die, by SIGKILL too, the
//! pipe ends and the guard kills what is left. It sits in a group of its own and ignores the terminal's signals, so that it is
//! the last to go. A program starts only after the guard has been told of its group, and the guard is told to forget a group while its
//! number still cannot be anyone else's: no moment is left in which a program could escape, or a stranger be hit.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process_group, waitid};

pub use rustix::process::Signal;

const GUARD: &str = r#"
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
/// A program waits for a line before it becomes itself: by then the guard knows its group.
const GATE: &str = "read -r go && exec \"$@\" </dev/null";

/// Sees to it that no program started through it outlives us. Dropping the last handle kills what still runs.
pub struct Guard {
    pipe: Mutex<Option<ChildStdin>>,
    shell: Mutex<Child>,
}

impl Guard {
    /// Starts the guard; fails where there is no `/bin/sh`.
    pub fn start() -> io::Result<Arc<Self>> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", GUARD, "air-guard"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Arc::new(Self { pipe: Mutex::new(shell.stdin.take()), shell: Mutex::new(shell) }))
    }

    /// A command for [`spawn`](Self::spawn): program and arguments, to which environment and folder may be added. Its
    /// input is empty, its output piped. A program that cannot be run ends with exit code 127 and says so on its standard error.
    pub fn command(argv: &[String]) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE, "air-gate"]).args(argv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }

    /// Starts what [`command`](Self::command) made.
    pub fn spawn(self: &Arc<Self>, mut command: Command) -> io::Result<Process> {
        let child = command.spawn()?;
        let mut process =
            Process { group: Group(Pid::from_child(&child)), child, guard: Arc::clone(self), status: None };
        // An error here drops the process, which ends it.
        self.say('+', process.group)?;
        if let Some(mut gate) = process.child.stdin.take() {
            gate.write_all(b"go\n")?;
        }
        Ok(process)
    }

    /// Tells the guard of a group. On return the line is in the pipe, which outlives us.
    fn say(&self, verb: char, group: Group) -> io::Result<()> {
        match self.pipe.lock().as_mut() {
            Some(pipe) => pipe.write_all(format!("{verb} {}\n", group.0.as_raw_nonzero()).as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe.lock().take();
        if let Err(error) = self.shell.lock().wait() {
            tracing::warn!(%error, "the guard of our processes ended badly");
        }
    }
}

/// A process group.
#[derive(Clone, Copy, Debug)]
pub struct Group(Pid);

impl Group {
    /// Sends a signal to every process of the group; one that has ended already is no error.
    pub fn signal(self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }
}

/// A program that runs, with all it started in its group. Dropped, it is killed.
pub struct Process {
    child: Child,
    group: Group,
    guard: Arc<Guard>,
    /// Set when it has been reaped.
    status: Option<ExitStatus>,
}

impl Process {
    /// Its group. Signals may be sent as long as [`wait`](Self::wait) has not returned.
    pub fn group(&self) -> Group {
        self.group
    }

    /// What it prints on standard output; `None` the second time.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What it prints on standard error; `None` the second time.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// [`wait`](Self::wait) for one that is about to end: if it has not within `span`, it is killed.
    pub fn end_within(&mut self, span: Duration) -> io::Result<ExitStatus> {
        let begin = Instant::now();
        let looks = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while self.status.is_none() && waitid(WaitId::Pid(self.group.0), looks)?.is_none() {
            if begin.elapsed() >= span {
                self.group.signal(Signal::KILL);
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.wait()
    }

    /// Waits for its end, then kills what it left running in its group.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        // Its number stays its own until it is reaped: until then the group can be killed, and forgotten, without a race.
        let ended = waitid(WaitId::Pid(self.group.0), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        self.group.signal(Signal::KILL);
        let forgotten = self.guard.say('-', self.group);
        let status = self.child.wait()?;
        self.status = Some(status);
        ended?;
        forgotten?;
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.group.signal(Signal::KILL);
            if let Err(error) = self.wait() {
                tracing::warn!(%error, "a process could not be reaped");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{BufRead as _, BufReader, Read as _};

    use super::*;

    fn sh(script: &str) -> Command {
        Guard::command(&["sh".into(), "-c".into(), script.into()])
    }

    #[test]
    fn a_program_runs_with_empty_input_and_its_end_is_told() {
        let guard = Guard::start().unwrap();
        let mut process = guard.spawn(sh("cat; echo out; exit 7")).unwrap();
        let mut out = String::new();
        process.stdout().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!((out.as_str(), process.wait().unwrap().code()), ("out\n", Some(7)));
        assert_eq!(process.wait().unwrap().code(), Some(7), "the same again");
    }

    #[test]
    fn what_a_program_leaves_running_ends_with_it() {
        let guard = Guard::start().unwrap();
        let mut process = guard.spawn(sh("sleep 1000 & echo started")).unwrap();
        let mut out = BufReader::new(process.stdout().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "started\n");
        assert!(process.wait().unwrap().success());
        // The sleeper held the pipe open; that it ends here is that the sleeper has.
        assert_eq!(out.read_line(&mut line).unwrap(), 0);
    }

    #[test]
    fn a_dropped_program_is_killed() {
        let guard = Guard::start().unwrap();
        let mut process = guard.spawn(sh("echo started; exec sleep 1000")).unwrap();
        let mut out = BufReader::new(process.stdout().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        drop(process);
        assert_eq!(out.read_line(&mut line).unwrap(), 0);
    }

    #[test]
    fn a_program_about_to_end_is_let_and_one_that_is_not_is_killed() {
        use std::os::unix::process::ExitStatusExt as _;
        let guard = Guard::start().unwrap();
        let mut ends = guard.spawn(sh("exit 3")).unwrap();
        assert_eq!(ends.end_within(Duration::from_hours(1)).unwrap().code(), Some(3));
        let mut stays = guard.spawn(sh("exec sleep 1000")).unwrap();
        assert_eq!(stays.end_within(Duration::ZERO).unwrap().signal(), Some(9));
    }

    #[test]
    fn a_guard_that_loses_its_pipe_kills_what_runs() {
        use std::os::unix::process::ExitStatusExt as _;
        let guard = Guard::start().unwrap();
        let mut ended = guard.spawn(sh("true")).unwrap();
        ended.wait().unwrap();
        let mut process = guard.spawn(sh("exec sleep 1000")).unwrap();
        // What our death does to the pipe.
        guard.pipe.lock().take();
        let ended = waitid(WaitId::Pid(process.group.0), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        assert!(ended.is_ok());
        assert_eq!(process.child.wait().unwrap().signal(), Some(9));
        process.status = Some(ExitStatus::default());
    }
}
