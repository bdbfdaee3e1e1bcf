//! Steps of a commit at which a test has the process die or stop. Builds without debug assertions
//! have none of it.

/// Where a commit has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first PREPARE TRANSACTION is sent, the second is not.
    PreparingSecond,
    /// All have prepared; nothing is decided.
    Prepared,
    /// The decision is sent; nothing is known of it.
    Deciding,
    /// It is decided; no other shard knows.
    Decided,
    /// The first COMMIT PREPARED is sent, the second is not.
    CommittingSecond,
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Step;

    /// Names a step and what to do there: `prepared:kill`, `decided:stop`.
    const VARIABLE: &str = "RINGWAY_FAILPOINT";

    pub struct Failpoint(Option<(Step, Signal)>, AtomicBool);

    impl Failpoint {
        pub fn of_environment() -> Self {
            let read = |text: String| {
                let (step, action) = text.split_once(':')?;
                let step = match step {
                    "preparing_second" => Step::PreparingSecond,
                    "prepared" => Step::Prepared,
                    "deciding" => Step::Deciding,
                    "decided" => Step::Decided,
                    "committing_second" => Step::CommittingSecond,
                    _ => return None,
                };
                let signal = match action {
                    "kill" => Signal::KILL,
                    "stop" => Signal::STOP,
                    _ => return None,
                };
                Some((step, signal))
            };
            let armed = std::env::var(VARIABLE).ok();
            Self(armed.and_then(read), AtomicBool::new(false))
        }

        /// Does what is to be done there, the first time.
        pub fn reach(&self, step: Step) {
            if let Some((at, signal)) = self.0
                && at == step
                && !self.1.swap(true, Relaxed)
            {
                // It cannot fail for one's own process.
                let _ = kill_process(getpid(), signal);
                // Another thread may be the one that takes it: this one shall get no further.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }

        /// Is something to be done at `step`?
        pub fn is_at(&self, step: Step) -> bool {
            self.0.is_some_and(|(at, _)| at == step)
        }
    }
}

#[cfg(not(debug_assertions))]
mod armed {
    use super::Step;

    pub struct Failpoint;

    impl Failpoint {
        pub fn of_environment() -> Self {
            Self
        }

        pub fn reach(&self, _: Step) {}

        pub fn is_at(&self, _: Step) -> bool {
            false
        }
    }
}

pub use armed::Failpoint;
