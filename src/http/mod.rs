//! The HTTP port: `/metrics` for Prometheus, `/healthz` and `/readyz` for who restarts or
//! balances, `/` for people, fed by `/status.json`. It knows nothing of the process but the functions
//! that it is given, and changes nothing.

mod held;
pub mod status;

use std::future::Future;
use std::io;

use axum::Router;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use metrics::Counter;
use ring::digest::{SHA256, digest};
use tokio::net::TcpListener;

use held::{LIMITS, Port};
use status::Status;

/// The format that [`crate::metrics::Metrics::render`] writes.
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The status page: one file that loads nothing but `/status.json`.
const PAGE: &str = include_str!("page.html");

/// What the process tells of itself.
#[derive(Clone)]
pub struct Answers<M, Y, S> {
    /// Writes the metrics.
    pub metrics: M,
    /// Why the process should get no new clients, if there is a reason.
    pub ready: Y,
    pub status: S,
}

/// Serves until `shutdown` resolves and the requests under way are answered. `closed` counts connections
/// that were closed because others came.
///
/// # Errors
/// Those of the listener.
pub async fn serve<M, Y, S>(
    listener: TcpListener,
    answers: Answers<M, Y, S>,
    closed: Counter,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()>
where
    M: Fn() -> String + Clone + Send + Sync + 'static,
    Y: Fn() -> Result<(), String> + Clone + Send + Sync + 'static,
    S: Fn() -> Status + Clone + Send + Sync + 'static,
{
    let Answers {
        metrics,
        ready,
        status,
    } = answers;
    let policy = page_policy();
    let router = Router::new()
        .route("/", get(async move || page(&policy)))
        .route("/status.json", get(async move || json(&status())))
        .route(
            "/metrics",
            get(async move || ([(header::CONTENT_TYPE, TEXT_FORMAT)], metrics())),
        )
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(ready())));
    axum::serve(Port::new(listener, LIMITS, closed), router)
        .with_graceful_shutdown(shutdown)
        .await
}

/// What nobody is to keep, to embed, or to take for another type.
const GUARDED: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

fn page(policy: &str) -> Response {
    let own = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy.to_owned()),
    ];
    (GUARDED, own, PAGE).into_response()
}

fn json(status: &Status) -> Response {
    let (code, text) = match serde_json::to_string(status) {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    };
    let own = [(header::CONTENT_TYPE, "application/json")];
    (code, GUARDED, own, text).into_response()
}

/// The page's own style and script, told by their hashes, and requests to this port; nothing else.
/// <https://www.w3.org/TR/CSP3/>
fn page_policy() -> String {
    let hash = |tag| {
        let text = element(PAGE, tag).unwrap_or_default();
        BASE64.encode(digest(&SHA256, text.as_bytes()))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    )
}

/// What stands in the first element of a name that has no attributes.
fn element<'p>(page: &'p str, tag: &str) -> Option<&'p str> {
    let (_, rest) = page.split_once(&format!("<{tag}>"))?;
    let (text, _) = rest.split_once(&format!("</{tag}>"))?;
    Some(text)
}

fn readiness(ready: Result<(), String>) -> impl IntoResponse {
    match ready {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A process that has nothing.
    fn empty() -> Status {
        Status {
            version: "1".into(),
            now_at_ms: 2,
            uptime_s: 3,
            unready: None,
            config: status::ConfigStatus {
                version: 4,
                last_reload: None,
            },
            clients: 5,
            max_clients: 6,
            point_s: 7,
            databases: Vec::new(),
            databases_left_out: 8,
        }
    }

    #[tokio::test]
    async fn answers_and_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = Arc::clone(&ready);
        let answers = Answers {
            metrics: || "ringway_clients 3\n".to_owned(),
            ready: move || match is_ready.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("shard s1 has no primary".to_owned()),
            },
            status: empty,
        };
        let served = tokio::spawn(serve(listener, answers, Counter::noop(), async move {
            stopped.await.unwrap_or_default()
        }));
        let metrics = get(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        assert!(metrics.ends_with("\r\n\r\nringway_clients 3\n"));
        assert!(get(address, "/healthz").await.ends_with("\r\n\r\nok\n"));
        let unready = get(address, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503 "), "{unready}");
        assert!(
            unready.ends_with("\r\n\r\nshard s1 has no primary\n"),
            "{unready}"
        );
        ready.store(true, Ordering::Relaxed);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        assert!(get(address, "/no").await.starts_with("HTTP/1.1 404 "));
        let json = get(address, "/status.json").await;
        let page = get(address, "/").await;
        for (answer, kind) in [(&json, "application/json"), (&page, "text/html")] {
            let (head, _) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            for wanted in [
                &format!("\r\ncontent-type: {kind}"),
                "\r\ncache-control: no-store",
                "\r\nx-content-type-options: nosniff",
                "\r\nx-frame-options: DENY",
            ] {
                assert!(head.contains(wanted), "{wanted}: {head}");
            }
        }
        let (_, body) = json.split_once("\r\n\r\n").unwrap();
        assert_eq!(serde_json::from_str::<Status>(body).unwrap(), empty());
        assert!(page.ends_with(PAGE));
        drop(stop);
        served.await.unwrap().unwrap();
    }

    #[test]
    fn the_page_is_all_that_its_policy_allows() {
        let policy = page_policy();
        for tag in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
            let text = element(PAGE, tag).unwrap();
            assert!(text.len() > 500, "{tag}");
            let hash = BASE64.encode(digest(&SHA256, text.as_bytes()));
            assert!(policy.contains(&format!("{tag}-src 'sha256-{hash}'")));
        }
        // The policy would keep them from working; markup from a name would be an injection.
        for unwanted in [
            "style=",
            "onclick=",
            "innerHTML",
            "http:",
            "https:",
            "<link rel=\"style",
        ] {
            let at = PAGE.find(unwanted).map(|at| &PAGE[at..]);
            let at = at.map(|rest| rest.lines().next().unwrap_or_default());
            let is_namespace = at.is_some_and(|at| at.starts_with("http://www.w3.org/2000/svg"));
            assert!(at.is_none() || is_namespace, "{unwanted}: {at:?}");
        }
    }
}
