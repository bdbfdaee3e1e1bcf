//! What Bind makes of a statement, until it has run.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use planner::ShardSet;
use planner::explained::Explained;
use planner::plan::{Access, PrepareStatement, SetStatement, TransactionMode};

use super::cursor::CursorPortal;
use super::names;
use crate::executor::broadcast::Job;
use crate::executor::scatter::Run;
use crate::metrics::digest::Digest;
use crate::session::Prepared;
use crate::session::cursors::Declaring;
use crate::session::scattered::Scattered;

pub(super) enum Portal {
    /// Lives on the server of this lease.
    Server {
        lease: usize,
        prepared: Arc<Prepared>,
    },
    Local(Local),
    Scatter(Box<ScatterPortal>),
    Broadcast(Box<BroadcastPortal>),
    Copy(Box<CopyPortal>),
}

/// What the session answers by itself.
pub(in crate::session) enum Local {
    Empty,
    Begin {
        sql: Vec<u8>,
        mode: TransactionMode,
    },
    End {
        commit: bool,
    },
    Chain {
        commit: bool,
    },
    Set(SetStatement),
    Show(String),
    Explain(Vec<String>),
    /// EXPLAIN over several shards.
    ExplainOn(Box<Explaining>),
    Prepare(PrepareStatement, Box<[u8]>),
    Deallocate(Option<String>),
    Listen(String),
    Unlisten(Option<String>),
    /// DECLARE over several shards.
    Declare(Box<Declaring>),
    /// FETCH, MOVE or CLOSE there.
    Cursor(Box<CursorPortal>),
    /// Executed. What returns rows has no more of them and says so with this tag; all else cannot
    /// be run twice.
    Ran(Option<String>),
}

pub(in crate::session) struct Explaining {
    pub(super) explained: Box<Explained>,
    pub(super) shards: ShardSet,
    pub(super) access: Access,
    pub(super) max_lag: Option<Duration>,
}

pub(super) struct ScatterPortal {
    pub(super) shards: ShardSet,
    pub(super) scattered: Box<Scattered>,
    pub(super) has_started: bool,
    pub(super) run: Option<(Run, Vec<usize>)>,
    pub(super) columns: BytesMut,
    pub(super) access: Access,
    pub(super) max_lag: Option<Duration>,
    /// Its shards were needed for something else before its last row.
    pub(super) interrupted: bool,
    pub(super) digest: Option<Arc<Digest>>,
}

pub(super) struct BroadcastPortal {
    pub(super) plan: Arc<planner::Plan>,
    pub(super) sql: Vec<u8>,
    pub(super) types: Vec<u32>,
    pub(super) result_formats: Vec<i16>,
    pub(super) shards: ShardSet,
    pub(super) job: Job,
    pub(super) ran: Ran,
    pub(super) digest: Option<Arc<Digest>>,
}

/// COPY on several shards.
pub(super) struct CopyPortal {
    pub(super) plan: Arc<planner::Plan>,
    pub(super) sql: Vec<u8>,
    pub(super) shards: ShardSet,
    pub(super) access: Access,
    pub(super) way: CopyWay,
    pub(super) ran: bool,
    pub(super) digest: Option<Arc<Digest>>,
}

/// Which way its data go.
#[derive(Clone)]
pub(super) enum CopyWay {
    In,
    /// Those of the shards follow each other.
    Out(planner::copy::Frame),
    /// Rows of a query over several shards.
    Rows(Arc<Scattered>),
}

/// What is left of a statement that ran whole at its first Execute.
pub(super) enum Ran {
    NotYet,
    /// It returns rows: those not fetched yet, and the command tag before their number.
    Rows {
        rows: BytesMut,
        verb: String,
    },
    /// It cannot be run twice.
    Once,
}

impl names::Charge for Portal {
    /// They end with their transaction.
    fn charge(&self, _: &[u8]) -> usize {
        0
    }
}
