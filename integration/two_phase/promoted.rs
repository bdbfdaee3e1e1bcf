//! Every shard fails over amid an atomic commit: a standby that had all of it finishes it by its decision.

use ringway::demo::captive::Spec;

use super::{LIMIT, PREPARED, RECOVERED, VALUES, World};
use crate::support::wait_until;

const STEPS: [(&str, &str); 3] = [
    ("prepared", "0 0"),
    ("decided", "1 1"),
    ("committing_second", "1 1"),
];

#[test]
fn what_was_decided_is_finished_after_every_shard_has_failed_over() {
    let tables =
        STEPS.map(|(step, _)| format!("CREATE TABLE {step} (k bigint PRIMARY KEY, v int);"));
    let keys = STEPS.map(|(step, _)| format!("{step} = {{ key = \"k\" }}\n"));
    let spec = Spec {
        shards: 3,
        replicas: 1,
        ..Spec::default()
    };
    let mut world = World::of(&spec, &tables.concat());
    world.on_all("ALTER SYSTEM SET synchronous_standby_names = '*'");
    world.on_all("SELECT pg_reload_conf()");
    for shard in &world.cluster.shards {
        let sql = "SELECT sync_state FROM pg_stat_replication";
        shard.primary.wait_for(sql, "sync", LIMIT).unwrap();
    }
    let first = world.ringway("first", "", "", &keys.concat());
    for (step, _) in STEPS {
        world.fill(&first, step);
    }
    drop(first);
    for (step, _) in STEPS {
        let mut victim = world.ringway(step, &format!("{step}:kill"), "", &keys.concat());
        let mut wire = victim.login();
        wire.query(&format!("UPDATE {step} SET v = v + 1"));
        assert_eq!(wire.read_to_ready(), [], "{step}: no answer");
        victim.process.wait_for_end();
    }
    for shard in &mut world.cluster.shards {
        shard.primary.kill9().unwrap();
        shard.replicas[0].promote().unwrap();
    }
    let on_each = |sql: &str| {
        let servers = world.cluster.shards.iter().map(|shard| &shard.replicas[0]);
        let answers = servers.map(|server| server.exec(sql).unwrap());
        answers.collect::<Vec<_>>()
    };
    let prepared = on_each(PREPARED);
    assert!(prepared.iter().any(|count| count != "0"), "{prepared:?}");
    let proxy = world.ringway("after", "", "", &keys.concat());
    wait_until(RECOVERED, "nothing to be prepared", || {
        on_each(PREPARED).iter().all(|count| count == "0")
    });
    for (step, wanted) in STEPS {
        let found = on_each(&format!("{VALUES}{step}"));
        assert!(
            found.iter().all(|shard| shard == wanted),
            "{step}: {found:?}"
        );
    }
    let again = proxy.login().ask("UPDATE prepared SET v = v + 1");
    assert_eq!(again, "UPDATE 64 I", "nothing is locked");
}
