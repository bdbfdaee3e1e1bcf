//! Spans of statements and shards, as a collector gets them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use ringway::demo::captive::Signal;
use ringway::demo::shop;

use crate::admin::free_port;
use crate::support::wire::{Wire, bind, execute, parse};
use crate::support::{Ringway, shop};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Takes spans over OTLP.
struct Collector {
    port: u16,
    services: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Self {
            port: listener.local_addr().unwrap().port(),
            services: Arc::default(),
            spans: Arc::default(),
        };
        let (spans, services) = (
            Arc::clone(&collector.spans),
            Arc::clone(&collector.services),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let request = receive(stream.unwrap());
                for resource in request.resource_spans {
                    let attributes = resource.resource.unwrap().attributes;
                    services.lock().unwrap().push(format!("{attributes:?}"));
                    let scopes = resource.scope_spans.into_iter();
                    let found = scopes.flat_map(|scope| scope.spans);
                    spans.lock().unwrap().extend(found);
                }
            }
        });
        collector
    }

    /// What it got of a process that has ended.
    fn of_ended(&self, mut ringway: Ringway) -> Vec<Span> {
        ringway.proxy.signal(Signal::Term);
        let limit = std::time::Duration::from_secs(20);
        crate::support::wait_until(limit, "the end", || ringway.proxy.check_running().is_err());
        self.spans.lock().unwrap().clone()
    }
}

fn receive(mut stream: TcpStream) -> ExportTraceServiceRequest {
    let mut bytes = Vec::new();
    let mut some = [0; 4096];
    loop {
        let read = stream.read(&mut some).unwrap();
        bytes.extend_from_slice(&some[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        let length = head.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let body = &bytes[end + 4..];
        if body.len() == length {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).unwrap();
            return request;
        }
    }
}

async fn start(tracing: &str) -> Ringway {
    let cluster = shop().await;
    Ringway::start(|port| {
        let toml = shop::ringway_toml(cluster, port);
        format!("{toml}\n[users.raw]\nauth = \"trust\"\n[tracing]\n{tracing}\n")
    })
}

fn comment(flags: &str) -> String {
    format!("/*action='show',traceparent='00-{TRACE}-{PARENT}-{flags}'*/")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let told = span.attributes.iter().map(|attribute| {
        let value = attribute.value.clone().and_then(|value| value.value);
        let text = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key.clone(), text)
    });
    told.collect()
}

#[tokio::test]
async fn statements_that_belong_to_a_trace_have_spans_of_their_shards() {
    let collector = Collector::start();
    let endpoint = format!("endpoint = \"http://127.0.0.1:{}\"", collector.port);
    let ringway = start(&format!("{endpoint}\nsample_one_in = 0")).await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
    let sorted = "SELECT name FROM customers WHERE name <> 'hunter2' ORDER BY name LIMIT 3";
    wire.ask(&format!("{sorted} {}", comment("01")));
    wire.ask(&format!("SELECT 1 {}", comment("00")));
    wire.ask("SELECT 2");
    let fails = format!(
        "{} SELECT 1 / (id - id) FROM customers WHERE id = $1",
        comment("01")
    );
    wire.ask_pipeline(&[parse("", &fails), bind("", "", &["7"]), execute("", 0)]);
    let refused = format!("{} LOCK TABLE customers", comment("01"));
    let is_refused = wire.ask(&refused).starts_with("0A000");
    let spans = collector.of_ended(ringway);

    let of_trace = |span: &&Span| hex(&span.trace_id) == TRACE;
    assert_eq!(
        spans.iter().filter(of_trace).count(),
        spans.len(),
        "{spans:?}"
    );
    let statements: Vec<&Span> = spans
        .iter()
        .filter(|span| hex(&span.parent_span_id) == PARENT)
        .collect();
    assert_eq!(statements.len(), 3, "{spans:?}");
    let [merged, failed, last] = statements[..] else {
        panic!("{statements:?}");
    };

    assert_eq!((merged.kind, merged.name.as_str()), (SERVER, "SELECT shop"));
    let told = attributes(merged);
    for (name, value) in [
        ("db.system.name", "postgresql"),
        ("db.system", "postgresql"),
        ("db.namespace", "shop"),
        ("db.operation.name", "SELECT"),
        (
            "db.query.text",
            "SELECT name FROM customers WHERE name <> ? ORDER BY name LIMIT ?",
        ),
        ("db.response.returned_rows", "3"),
        ("ringway.route", "merge"),
        ("user.name", "raw"),
        ("client.address", "127.0.0.1"),
    ] {
        assert_eq!(told[name], value, "{told:?}");
    }
    assert!(!told.contains_key("error.type"), "{told:?}");
    let hops_of = |span: &Span| -> Vec<&Span> {
        let below = spans
            .iter()
            .filter(|hop| hop.parent_span_id == span.span_id);
        below.collect()
    };
    let hops = hops_of(merged);
    let shards: Vec<_> = hops.iter().map(|hop| attributes(hop)).collect();
    let mut names: Vec<_> = shards
        .iter()
        .map(|told| told["ringway.shard"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["s1", "s2"]);
    for (hop, told) in hops.iter().zip(&shards) {
        assert_eq!(hop.kind, CLIENT);
        assert_eq!(hop.name, format!("SELECT {}", told["ringway.shard"]));
        assert_eq!(told["server.address"], "127.0.0.1");
        assert!(told["server.port"].parse::<u16>().unwrap() > 1024);
        assert!(["primary", "replica"].contains(&told["ringway.role"].as_str()));
        let (from, until) = (hop.start_time_unix_nano, hop.end_time_unix_nano);
        assert!(merged.start_time_unix_nano <= from && from < until);
        assert!(until <= merged.end_time_unix_nano, "{hop:?} {merged:?}");
    }

    let told = attributes(failed);
    assert_eq!(told["db.response.status_code"], "22012", "{told:?}");
    assert_eq!(told["error.type"], "22012");
    assert_eq!(failed.status.as_ref().unwrap().code, 2);
    assert_eq!(hops_of(failed).len(), 1);

    let told = attributes(last);
    assert_eq!(told["db.operation.name"], "LOCK");
    assert_eq!(
        is_refused,
        told.get("error.type").is_some_and(|code| code == "0A000")
    );
    assert!(!format!("{spans:?}").contains("hunter2"));
    let services = collector.services.lock().unwrap();
    assert!(services[0].contains("service.name") && services[0].contains("ringway"));
}

#[tokio::test]
async fn others_are_traced_as_often_as_is_set() {
    let collector = Collector::start();
    let endpoint = format!(
        "endpoint = \"http://127.0.0.1:{}/v1/traces\"",
        collector.port
    );
    let ringway = start(&format!("{endpoint}\nsample_one_in = 4")).await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
    for _ in 0..400 {
        wire.ask("SELECT 1");
    }
    let spans = collector.of_ended(ringway);
    let is_statement = |span: &&Span| span.kind == SERVER && span.parent_span_id.is_empty();
    let traced = spans.iter().filter(is_statement).count();
    assert!((50..200).contains(&traced), "{traced}");
    assert_eq!(spans.len(), 2 * traced, "each with its hop");
}

#[tokio::test]
async fn a_collector_that_is_away_keeps_nobody_waiting_and_is_told_of_once() {
    let nobody = free_port();
    let endpoint = format!("endpoint = \"http://127.0.0.1:{nobody}\"\nsample_one_in = 1");
    let mut ringway = start(&endpoint).await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
    // More than are kept for the collector.
    for _ in 0..3_000 {
        assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
    }
    ringway.proxy.signal(Signal::Term);
    let limit = std::time::Duration::from_secs(20);
    crate::support::wait_until(limit, "the end", || ringway.proxy.check_running().is_err());
    let log = ringway.proxy.log();
    assert_eq!(log.matches("spans are lost").count(), 1, "{log}");
}
