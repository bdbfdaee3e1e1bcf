//! Where log lines go: standard error, as text for people or as JSON for machines.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::util::TryInitError;

use crate::config::LogFormat;

/// Sends the process's log lines to standard error; called once, by `main`.
///
/// `level` is in EnvFilter's syntax, as the configuration checks it; what cannot be parsed in it
/// is left out.
///
/// # Errors
/// When the process has a log already.
pub fn init(format: LogFormat, level: &str) -> Result<(), TryInitError> {
    subscriber(format, level, io::stderr, io::stderr().is_terminal()).try_init()
}

/// The subscriber behind [`init`], for any writer.
fn subscriber<W>(
    format: LogFormat,
    level: &str,
    writer: W,
    colour: bool,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(level))
        .with_writer(writer);
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(colour).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
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
        let subscriber = subscriber(format, "info", move || writer.clone(), false);
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
}
