//! A child process that cannot outlive us, however we end.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Error;

/// Runs `"$@"`, sends it the signals named on its standard input, and kills it when that input
/// closes, which the kernel does for us even after SIGKILL. What is left in the directory `$0` is
/// then removed as well, since nobody else is there to do it.
const SHELL: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
(
    while read -r signal; do kill -s "$signal" "$child"; done
    : >"$0/orphaned"
    # PostgreSQL ends at once on SIGQUIT; what a shell starts in the background ignores it.
    kill -s QUIT "$child"
    kill -s TERM "$child"
) <&3 3<&- >/dev/null 2>&1 &
guard=$!
exec 3<&-
wait "$child"
status=$?
if [ -e "$0/orphaned" ]; then
    rm -rf "$0"
    rmdir "$(dirname "$0")" 2>/dev/null
fi
kill "$guard" 2>/dev/null
exit "$status"
"#;

/// How often a condition outside this process is looked at again.
pub(in crate::demo) const POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Cont,
    Hup,
    Int,
    Kill,
    Quit,
    Stop,
    Term,
    Usr1,
    Usr2,
}

impl Signal {
    /// The name as `kill -s` takes it.
    fn name(self) -> &'static str {
        match self {
            Self::Cont => "CONT",
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Quit => "QUIT",
            Self::Stop => "STOP",
            Self::Term => "TERM",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
}

/// A child that is told signals through a pipe and dies when the pipe closes.
#[derive(Debug)]
pub struct Guarded {
    shell: Child,
}

impl Guarded {
    /// Starts `program` with its output appended to `log`. `shell` runs `/bin/sh` under the user
    /// and environment that the child shall have. `dir` is the child's own directory, writable
    /// for that user: it is removed should we die without stopping the child.
    pub fn spawn(
        mut shell: Command,
        program: &Path,
        args: &[&str],
        dir: &Path,
        log: File,
    ) -> Result<Self, Error> {
        let shell = shell
            .arg("-c")
            .arg(SHELL)
            .arg(dir)
            .arg(program)
            .args(args)
            .current_dir(dir)
            // Out of the terminal's foreground group: Ctrl-C is ours to pass on, in our order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { shell })
    }

    /// Sends a signal to the child. A child that has ended is no error: that is what was wanted.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(pipe) = &mut self.shell.stdin {
            let _ = writeln!(pipe, "{}", signal.name());
        }
    }

    /// Process id of the child, which means something only while it runs.
    pub fn pid(&self) -> Option<u32> {
        let shell = self.shell.id();
        let children = format!("/proc/{shell}/task/{shell}/children");
        // In the order of their start, and the shell starts the child first.
        let children = std::fs::read_to_string(children).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// The child's exit status once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        Ok(self.shell.try_wait()?)
    }

    /// Waits for the end of the child.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(Error::Timeout {
                    what: "a process to end".to_owned(),
                });
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.signal(Signal::Kill);
        let _ = self.shell.wait();
    }
}
