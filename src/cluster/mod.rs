use std::sync::Arc;
use planner::{Catalog, ShardId};
use crate::config::Endpoint;
use crate::error::Error;
use crate::net::Instant;
pub struct Cluster;
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndpointId(pub usize);
pub enum Role { Primary, Replica }
pub struct Pick { pub endpoint: EndpointId, pub role: Role }
#[derive(Default, Clone)]
pub struct Mark;
impl Mark { pub fn wrote(&mut self, _n: Instant) {} }
impl Cluster {
  pub fn catalog(&self) -> Arc<Catalog> { unimplemented!() }
  pub async fn reload_catalog(&self) {}
  pub fn primary(&self, _s: ShardId) -> Option<EndpointId> { None }
  pub async fn primary_or_wait(&self, _s: ShardId, _d: Instant) -> Result<EndpointId, Error> { std::future::pending().await }
  pub fn pick_read(&self, _s: ShardId, _m: &mut Mark) -> Pick { unimplemented!() }
  pub fn endpoint(&self, _s: ShardId, _e: EndpointId) -> &Endpoint { unimplemented!() }
  pub fn checkout_failed(&self, _s: ShardId, _e: EndpointId) {}
}
