//! Traces: OpenTelemetry spans of statements and of what each shard does for them, sent over OTLP.
//!
//! Spans are made when a statement is answered, so a statement that is not traced costs a comparison.
//! A client decides by a W3C traceparent in a comment of its statement, as sqlcommenter writes it;
//! else one of so many statements is traced.
//! <https://opentelemetry.io/docs/specs/semconv/database/database-spans/>

mod parent;
mod post;

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

pub use parent::Parent;
use post::Post;

use crate::config::{Endpoint, TracingSettings};
use crate::error::{Error, Fault};
use crate::metrics::Role;

/// Where spans are given to. What the collector does not take in time is dropped; no statement waits.
pub struct Tracer {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    one_in: u64,
}

/// A statement that was answered.
pub struct Statement<'a> {
    pub database: &'a str,
    pub user: &'a str,
    pub client: &'a str,
    /// Without values; `None` if it is not known.
    pub text: Option<&'a str>,
    pub route: &'static str,
    pub rows: u64,
    pub queued: Duration,
    /// An SQLSTATE.
    pub failure: Option<&'a str>,
    /// Since its arrival.
    pub elapsed: Duration,
    pub hops: Vec<Hop<'a>>,
}

/// What one server does for it.
pub struct Hop<'a> {
    pub shard: &'a str,
    pub dbname: &'a str,
    pub role: Role,
    pub endpoint: &'a Endpoint,
    /// After the statement's arrival.
    pub from: Duration,
    pub until: Duration,
}

impl Tracer {
    /// # Errors
    /// XX000 where the exporter does not start.
    pub fn start(settings: &TracingSettings) -> Result<Self, Error> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Post::new(settings))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.url())
            .build()
            .map_err(|error| {
                let message = "spans cannot be exported";
                Error::new(Fault::Operator, "XX000", message).detail(error.to_string())
            })?;
        let resource = Resource::builder_empty()
            .with_service_name(settings.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        Ok(Self {
            tracer: provider.tracer("ringway"),
            provider,
            one_in: u64::from(settings.sample_one_in),
        })
    }

    /// Is a statement traced that no client has decided for? `drawn` is any number.
    pub fn draws(&self, drawn: u64) -> bool {
        self.one_in > 0 && drawn.is_multiple_of(self.one_in)
    }

    /// Sends what is left; waits for the collector, so not for a runtime's thread.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }

    /// Makes the spans of a statement that was answered just now.
    pub fn statement(&self, parent: Option<&Parent>, statement: &Statement<'_>) {
        let now = SystemTime::now();
        let start = now.checked_sub(statement.elapsed).unwrap_or(now);
        let operation = statement.text.and_then(|text| text.split(' ').next());
        let operation = operation.unwrap_or("statement").to_ascii_uppercase();
        let (client, port) = address(statement.client);
        let mut attributes = vec![
            KeyValue::new("db.system.name", "postgresql"),
            // What it was called before the conventions were stable.
            KeyValue::new("db.system", "postgresql"),
            KeyValue::new("db.namespace", statement.database.to_owned()),
            KeyValue::new("db.operation.name", operation.clone()),
            KeyValue::new("user.name", statement.user.to_owned()),
            KeyValue::new("client.address", client.to_owned()),
            KeyValue::new("db.response.returned_rows", number(statement.rows)),
            KeyValue::new("ringway.route", statement.route),
            KeyValue::new("ringway.queue_us", micros(statement.queued)),
        ];
        attributes.extend(port.map(|port| KeyValue::new("client.port", i64::from(port))));
        let text = statement.text.map(str::to_owned);
        attributes.extend(text.map(|text| KeyValue::new("db.query.text", text)));
        if let Some(code) = statement.failure {
            attributes.push(KeyValue::new("db.response.status_code", code.to_owned()));
            attributes.push(KeyValue::new("error.type", code.to_owned()));
        }
        let name = format!("{operation} {}", statement.database);
        let builder = (self.tracer.span_builder(name))
            .with_kind(SpanKind::Server)
            .with_start_time(start)
            .with_attributes(attributes);
        let above = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.context()),
            None => Context::new(),
        };
        let mut span = self.tracer.build_with_context(builder, &above);
        if let Some(code) = statement.failure {
            span.set_status(Status::error(format!("SQLSTATE {code}")));
        }
        let context = span.span_context().clone();
        let below = Context::new().with_remote_span_context(context);
        for hop in &statement.hops {
            self.hop(&below, start, &operation, hop);
        }
        span.end_with_timestamp(now);
    }

    fn hop(&self, statement: &Context, start: SystemTime, operation: &str, hop: &Hop<'_>) {
        let attributes = [
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.system", "postgresql"),
            KeyValue::new("db.namespace", hop.dbname.to_owned()),
            KeyValue::new("server.address", hop.endpoint.host.clone()),
            KeyValue::new("server.port", i64::from(hop.endpoint.port)),
            KeyValue::new("ringway.shard", hop.shard.to_owned()),
            KeyValue::new("ringway.role", hop.role.name()),
        ];
        let builder = (self.tracer)
            .span_builder(format!("{operation} {}", hop.shard))
            .with_kind(SpanKind::Client)
            .with_start_time(start + hop.from)
            .with_attributes(attributes);
        let mut span = self.tracer.build_with_context(builder, statement);
        span.end_with_timestamp(start + hop.until);
    }
}

impl Parent {
    fn context(&self) -> SpanContext {
        SpanContext::new(
            TraceId::from_bytes(self.trace),
            SpanId::from_bytes(self.span),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        )
    }
}

fn address(client: &str) -> (&str, Option<u16>) {
    match client.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host.trim_matches(['[', ']']), Some(port)),
            Err(_) => (client, None),
        },
        None => (client, None),
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
