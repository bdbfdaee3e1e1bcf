//! What the kernel says a process has used: CPU time and memory, from /proc.
//! <https://docs.kernel.org/filesystems/proc.html>

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use crate::Failure;

/// `USER_HZ`: the unit of /proc/PID/stat, the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of all threads of a process since it started.
#[derive(Debug, Clone, Copy)]
pub struct CpuTime {
    /// User and system together, to the nanosecond.
    pub total: Duration,
    /// The part outside the kernel, to [`TICK`].
    pub user: Duration,
}

impl CpuTime {
    /// # Errors
    /// The process is gone.
    pub fn of(pid: u32) -> Result<Self, Failure> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the listing and the reading.
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            let on_cpu = text.split_whitespace().next().unwrap_or("0");
            nanoseconds += on_cpu.parse::<u64>()?;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold spaces; utime is the 12th field after it.
        let utime = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(11))
            .ok_or("/proc/PID/stat has no utime")?;
        Ok(Self {
            total: Duration::from_nanos(nanoseconds),
            user: TICK * utime.parse()?,
        })
    }
}

/// CPU time of a process, of its children, and of the children that have ended.
///
/// # Errors
/// The process is gone.
pub fn family_cpu_time(pid: u32) -> Result<Duration, Failure> {
    let mut total = CpuTime::of(pid)?.total;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    for child in children.split_whitespace() {
        // One that ends meanwhile is counted with its parent next time.
        total += CpuTime::of(child.parse()?).map_or(Duration::ZERO, |time| time.total);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // cutime and cstime.
    let (_, fields) = stat.rsplit_once(") ").ok_or("/proc/PID/stat has no name")?;
    for ticks in fields.split(' ').skip(13).take(2) {
        total += TICK * ticks.parse()?;
    }
    Ok(total)
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            user: self.user.saturating_sub(earlier.user),
        }
    }
}

/// Resident memory in bytes (`VmRSS`).
///
/// # Errors
/// The process is gone.
pub fn resident_bytes(pid: u32) -> Result<u64, Failure> {
    memory(pid, "VmRSS:")
}

/// The most resident memory so far, in bytes (`VmHWM`).
///
/// # Errors
/// The process is gone.
pub fn peak_bytes(pid: u32) -> Result<u64, Failure> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"))
        .ok_or_else(|| format!("/proc/PID/status has no {name}"))?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

/// How many files this process may open, and how many it could ask for.
pub fn open_files_limits() -> Result<(u64, u64), Failure> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .ok_or("/proc/self/limits does not name open files")?;
    let mut numbers = line.split_whitespace();
    let mut next = || -> Result<u64, Failure> {
        let word = numbers.next().ok_or("/proc/self/limits is cut short")?;
        Ok(if word == "unlimited" {
            u64::MAX
        } else {
            word.parse()?
        })
    };
    Ok((next()?, next()?))
}
