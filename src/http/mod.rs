//! The HTTP port: `/metrics` for Prometheus, `/healthz` and `/readyz` for who restarts or
//! balances. It knows nothing of the process but the two functions that it is given.

use std::future::Future;
use std::io;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

/// The format that [`crate::metrics::Metrics::render`] writes.
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until `shutdown` resolves and the requests under way are answered.
///
/// `render` writes the metrics; `ready` returns why the process should get no new clients, if
/// there is a reason.
///
/// # Errors
/// Those of the listener.
pub async fn serve<R, Y>(
    listener: TcpListener,
    render: R,
    ready: Y,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()>
where
    R: Fn() -> String + Clone + Send + Sync + 'static,
    Y: Fn() -> Result<(), String> + Clone + Send + Sync + 'static,
{
    let router = Router::new()
        .route(
            "/metrics",
            get(async move || ([(header::CONTENT_TYPE, TEXT_FORMAT)], render())),
        )
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(ready())));
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
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

    #[tokio::test]
    async fn answers_and_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = Arc::clone(&ready);
        let served = tokio::spawn(serve(
            listener,
            || "ringway_clients 3\n".to_owned(),
            move || match is_ready.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("shard s1 has no primary".to_owned()),
            },
            async move { stopped.await.unwrap_or_default() },
        ));
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
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
        drop(stop);
        served.await.unwrap().unwrap();
    }
}
