//! The wait-for graphs of several servers, merged: a client's server connections are one party.

use std::collections::{HashMap, HashSet};

use crate::config::Endpoint;

/// A server process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backend {
    pub server: Endpoint,
    /// 0: a prepared transaction.
    pub pid: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Party {
    /// A client of this process, by its number.
    Client(usize),
    /// It works for none of them.
    Stranger(Backend),
}

struct Wait {
    waiter: Backend,
    blocker: Backend,
}

/// What a client's wait for a lock comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits for none.
    Free,
    /// For somebody who is at work, or whose own server ends it.
    Waits,
    /// For a stranger who waits for no lock there; elsewhere that is not known.
    ForStrangers,
    /// For itself in the end, by way of these clients too, and no server sees that.
    Deadlock(Vec<usize>),
}

#[derive(Default)]
pub struct Graph {
    /// The clients of this process, by the server processes that work for them.
    clients: HashMap<Backend, usize>,
    waits: HashMap<Party, Vec<Wait>>,
}

impl Graph {
    pub fn works_for(&mut self, backend: Backend, client: usize) {
        self.clients.insert(backend, client);
    }

    /// After all of [`Graph::works_for`].
    pub fn waits_for(&mut self, waiter: Backend, blocker: Backend) {
        let wait = Wait { waiter, blocker };
        let waits = self.waits.entry(self.party(&wait.waiter)).or_default();
        waits.push(wait);
    }

    fn party(&self, backend: &Backend) -> Party {
        let client = self.clients.get(backend);
        client.map_or_else(
            || Party::Stranger(backend.clone()),
            |client| Party::Client(*client),
        )
    }

    pub fn standing(&self, client: usize) -> Standing {
        let start = Party::Client(client);
        if !self.waits.contains_key(&start) {
            return Standing::Free;
        }
        let mut walk = Walk {
            graph: self,
            start: &start,
            path: Vec::new(),
            seen: HashSet::new(),
            met_stranger: false,
        };
        if walk.returns(&start) {
            let parties = walk.path.iter().map(|wait| self.party(&wait.blocker));
            return Standing::Deadlock(
                parties
                    .filter_map(|party| match party {
                        Party::Client(client) => Some(client),
                        Party::Stranger(_) => None,
                    })
                    .collect(),
            );
        }
        match walk.met_stranger {
            true => Standing::ForStrangers,
            false => Standing::Waits,
        }
    }
}

/// From a party along all waits, depth first.
struct Walk<'g> {
    graph: &'g Graph,
    start: &'g Party,
    path: Vec<&'g Wait>,
    seen: HashSet<Party>,
    met_stranger: bool,
}

impl Walk<'_> {
    /// True if a way leads back to the start; `path` is that way.
    fn returns(&mut self, from: &Party) -> bool {
        let Some(waits) = self.graph.waits.get(from) else {
            self.met_stranger |= matches!(from, Party::Stranger(_));
            return false;
        };
        for wait in waits {
            self.path.push(wait);
            let next = self.graph.party(&wait.blocker);
            if next == *self.start {
                if !self.is_its_servers_own() {
                    return true;
                }
            } else if self.seen.insert(next.clone()) && self.returns(&next) {
                return true;
            }
            self.path.pop();
        }
        false
    }

    /// A circle of processes of one server, which finds it after its `deadlock_timeout`.
    fn is_its_servers_own(&self) -> bool {
        let next = self.path.iter().cycle().skip(1);
        let mut steps = self.path.iter().zip(next);
        steps.all(|(wait, next)| wait.blocker == next.waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(name: &str) -> Backend {
        let (server, pid) = name.split_at(1);
        let server = Endpoint {
            host: server.to_owned(),
            port: 5432,
        };
        let pid = pid.parse().unwrap();
        Backend { server, pid }
    }

    /// Clients 0, 1, … by their server processes, and waits, as `a1 a2`: process 1 of server `a` for 2.
    fn graph(clients: &[&str], waits: &[&str]) -> Graph {
        let mut graph = Graph::default();
        for (client, backends) in clients.iter().enumerate() {
            for name in backends.split(' ') {
                graph.works_for(backend(name), client);
            }
        }
        for wait in waits {
            let (waiter, blocker) = wait.split_once(' ').unwrap();
            graph.waits_for(backend(waiter), backend(blocker));
        }
        graph
    }

    #[test]
    fn a_circle_over_servers_is_a_deadlock_of_those_in_it() {
        let clients = ["a1 b1", "a2 b2", "a3 b3", "a4"];
        let two = graph(&clients, &["a1 a2", "b2 b1", "a4 a1"]);
        assert_eq!(two.standing(0), Standing::Deadlock(vec![1, 0]));
        assert_eq!(two.standing(1), Standing::Deadlock(vec![0, 1]));
        assert_eq!(two.standing(2), Standing::Free);
        assert_eq!(two.standing(3), Standing::Waits);
        // By way of a stranger, and of one who waits for two.
        let more = graph(&clients, &["a1 a9", "a9 a4", "a9 a2", "b2 b3", "b3 b1"]);
        assert_eq!(more.standing(0), Standing::Deadlock(vec![1, 2, 0]));
        assert_eq!(more.standing(3), Standing::Free);
    }

    #[test]
    fn a_circle_that_its_server_sees_is_left_to_it() {
        let clients = ["a1 b1", "a2 b2"];
        assert_eq!(
            graph(&clients, &["a1 a2", "a2 a1"]).standing(0),
            Standing::Waits
        );
        // Two shards on one server.
        let clients = ["a1 a2", "a3 a4"];
        let circle = graph(&clients, &["a1 a3", "a4 a2"]);
        assert_eq!(circle.standing(0), Standing::Deadlock(vec![1, 0]));
        // For itself.
        let circle = graph(&clients, &["a1 a2"]);
        assert_eq!(circle.standing(0), Standing::Deadlock(vec![0]));
    }

    #[test]
    fn a_wait_for_somebody_at_work_is_none() {
        let clients = ["a1 b1", "a2 b2"];
        assert_eq!(graph(&clients, &["a1 a2"]).standing(0), Standing::Waits);
        // Strangers may wait elsewhere.
        for stranger in ["a1 a9", "a1 a0"] {
            let graph = graph(&clients, &[stranger]);
            assert_eq!(graph.standing(0), Standing::ForStrangers);
        }
        let graph = graph(&clients, &["a1 a2", "b2 b9"]);
        assert_eq!(graph.standing(0), Standing::ForStrangers);
    }
}
