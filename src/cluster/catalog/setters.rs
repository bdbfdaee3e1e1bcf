//! Whether a write may change settings without its text showing it: by a trigger, a default, a check,
//! a rule. The setting would stay on the connection, where the next client finds it. Pure.
//!
//! By words alone, and so more careful than need be.

use std::collections::HashSet;

/// A function of users, of a language whose texts can be read; of another, with a text that sets.
#[derive(Debug, Clone)]
pub struct Body {
    pub name: String,
    pub text: String,
    /// Some object of the database calls it: a write of a table may do so without naming it.
    pub is_hook: bool,
}

/// Whether a function that is called unseen may change a setting, by itself or by what it calls.
pub fn may_set_unseen(functions: &[Body]) -> bool {
    let mut setters: HashSet<&str> = functions
        .iter()
        .filter(|function| may_set(&function.text))
        .map(|function| function.name.as_str())
        .collect();
    loop {
        let calls_one = |function: &&Body| {
            !setters.contains(function.name.as_str())
                && words(&function.text).any(|word| setters.contains(word))
        };
        let more: Vec<_> = functions.iter().filter(calls_one).collect();
        if more.is_empty() {
            break;
        }
        setters.extend(more.iter().map(|function| function.name.as_str()));
    }
    let mut hooks = functions.iter().filter(|function| function.is_hook);
    hooks.any(|function| setters.contains(function.name.as_str()))
}

/// set_config, SET and RESET; and SQL that is put together when it runs. The SET of an UPDATE is
/// another one: there is an UPDATE for it in the same statement.
fn may_set(text: &str) -> bool {
    let lower = text.to_lowercase();
    lower.split(';').any(|statement| {
        let mut updates = 0;
        let mut before = "";
        for word in words(statement) {
            match word {
                "set_config" | "execute" | "reset" | "discard" => return true,
                "update" if !["for", "key"].contains(&before) => updates += 1,
                "set" if updates == 0 => return true,
                "set" => updates -= 1,
                _ => {}
            }
            before = word;
        }
        false
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.split(move |c| !is_part(c))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_do_not_set() {
        for text in [
            "BEGIN NEW.changed := now(); RETURN NEW; END",
            "BEGIN UPDATE t SET v = 1; INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET v = 2; END",
            "BEGIN UPDATE t SET v = 1 WHERE id IN (SELECT id FROM t FOR UPDATE); END",
        ] {
            assert!(!may_set(text), "{text}");
        }
        for text in [
            "BEGIN SET work_mem = '9MB'; END",
            "BEGIN PERFORM pg_catalog.\"set_config\"('a.b', 'c', false); END",
            "BEGIN FOR r IN SELECT 1 FOR UPDATE LOOP SET a.b = 'c'; END LOOP; END",
            "BEGIN UPDATE t SET v = 1; Set a.b = 'c'; END",
            "begin execute 's' || 'et a.b = 1'; end",
            "BEGIN RESET a.b; END",
        ] {
            assert!(may_set(text), "{text}");
        }
    }

    #[test]
    fn a_hook_sets_through_others() {
        let body = |name: &str, text: &str, is_hook| Body {
            name: name.to_owned(),
            text: text.to_owned(),
            is_hook,
        };
        let mut functions = vec![
            body("hook", "BEGIN PERFORM public.near(1); END", true),
            body("near", "SELECT far()", false),
            body("far", "SELECT 1", false),
            body(
                "called_by_name",
                "SELECT set_config('a.b', 'c', false)",
                false,
            ),
        ];
        assert!(!may_set_unseen(&functions));
        functions[2].text = "SELECT set_config('a.b', 'c', false)".to_owned();
        assert!(may_set_unseen(&functions));
        functions[0].is_hook = false;
        assert!(!may_set_unseen(&functions));
    }
}
