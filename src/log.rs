//! Where log lines go: standard error, as text for people or as JSON for machines.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::util::TryInitError;

use crate::config::LogFormat;

/// What is logged from now on; `level` as in [`init`].
pub type SetLevel = Box<dyn Fn(&str) + Send + Sync>;

/// Sends the process's log lines to standard error; called once, by `main`. What it answers changes
/// the level while the process runs.
///
/// `level` is in EnvFilter's syntax, as the configuration checks it; what cannot be parsed in it
/// is left out.
///
/// # Errors
/// When the process has a log already.
pub fn init(format: LogFormat, level: &str) -> Result<SetLevel, TryInitError> {
    let (subscriber, set_level) = subscriber(format, level, io::stderr, io::stderr().is_terminal());
    subscriber.try_init()?;
    Ok(set_level)
}

/// The subscriber behind [`init`], for any writer.
fn subscriber<W>(
    format: LogFormat,
    level: &str,
    writer: W,
    colour: bool,
) -> (Box<dyn tracing::Subscriber + Send + Sync>, SetLevel)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(writer);
    match format {
        LogFormat::Text => {
            let builder = builder.with_ansi(colour).with_filter_reloading();
            let handle = builder.reload_handle();
            (
                Box::new(builder.finish()),
                Box::new(move |level| follow(&handle, level)),
            )
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            (
                Box::new(builder.finish()),
                Box::new(move |level| follow(&handle, level)),
            )
        }
    }
}

/// Notices of servers on Ringway's own connections are no news: what they mean for it is logged here. A
/// level may name the crate to see them.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::builder().parse_lossy(format!("tokio_postgres=error,{level}"))
}

/// Without a subscriber, which lives as long as the process, there is nothing to change.
fn follow<S>(handle: &reload::Handle<EnvFilter, S>, level: &str) {
    let _: Result<(), reload::Error> = handle.reload(filter(level));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, _) = subscriber(format, "info", move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("below the level");
            tracing::info!(database = "shop", "pool opened");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_one_line_for_people() {
        let line = logged(LogFormat::Text);
        assert!(line.ends_with("pool opened database=\"shop\"\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn json_has_the_fields_at_its_top() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!(line["message"], "pool opened");
        assert_eq!(line["database"], "shop");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn the_level_follows() {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, set_level) =
            subscriber(LogFormat::Json, "info", move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, || {
            for (level, at) in [("debug", 1), ("error", 2), ("info", 3)] {
                set_level(level);
                tracing::info!(target: "tokio_postgres::connection", "a notice");
                tracing::debug!(at, "debug");
                tracing::info!(at, "info");
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let seen: Vec<(String, u64)> = text
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                (
                    line["message"].as_str().unwrap().to_owned(),
                    line["at"].as_u64().unwrap(),
                )
            })
            .collect();
        let expected = [("debug", 1), ("info", 1), ("info", 3)];
        assert_eq!(seen, expected.map(|(message, at)| (message.to_owned(), at)));
    }
}
