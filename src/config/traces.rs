//! `[tracing]`: where spans go, and of how many statements.

use super::reader::Section;

/// OTLP's port for HTTP, and its path for traces.
/// <https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>
const PORT: u16 = 4318;
const PATH: &str = "/v1/traces";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingSettings {
    /// Of the collector.
    pub host: String,
    pub port: u16,
    pub path: String,
    /// Of so many statements that no client asks to trace, one is traced; 0: none.
    pub sample_one_in: u32,
    pub service_name: String,
}

impl TracingSettings {
    /// The endpoint as a URL.
    pub fn url(&self) -> String {
        let Self {
            host, port, path, ..
        } = self;
        format!("http://{host}:{port}{path}")
    }
}

/// `None` without an endpoint: nothing is traced.
pub(super) fn settings(section: &Section<'_>) -> Option<TracingSettings> {
    let sample_one_in = section.integer("sample_one_in", 0..=1_000_000_000);
    let service_name = section.string("service_name");
    let written = section.string("endpoint")?;
    let Some((host, port, path)) = parts(written) else {
        let what = format!("\"{written}\" is no http:// address");
        let remedy =
            "write \"http://HOST:4318\", of a collector that may encrypt what it passes on";
        section.mistake("endpoint", what, remedy);
        return None;
    };
    Some(TracingSettings {
        host,
        port,
        path,
        sample_one_in: sample_one_in.unwrap_or(100),
        service_name: service_name.unwrap_or("ringway").to_owned(),
    })
}

fn parts(url: &str) -> Option<(String, u16, String)> {
    let rest = url.strip_prefix("http://")?;
    let (place, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let path = match path {
        "" | "/" => PATH,
        path => path,
    };
    let in_brackets = place.ends_with(']');
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !in_brackets => (host, port.parse().ok()?),
        Some(_) | None => (place, PORT),
    };
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = !host.is_empty() && is_plain(host) && is_plain(path) && !host.contains('@');
    fits.then(|| (host.to_owned(), port, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let told = |url: &str| {
            let (host, port, path) = parts(url)?;
            Some(format!("{host} {port} {path}"))
        };
        for (url, expected) in [
            ("http://collector", Some("collector 4318 /v1/traces")),
            ("http://collector:1/", Some("collector 1 /v1/traces")),
            ("http://[::1]", Some("[::1] 4318 /v1/traces")),
            ("http://[::1]:99/otlp/x", Some("[::1] 99 /otlp/x")),
            ("https://collector", None),
            ("http://", None),
            ("http://a:port", None),
            ("http://user@a", None),
            ("http://a b", None),
        ] {
            assert_eq!(told(url).as_deref(), expected, "{url}");
        }
    }
}
