//! INSERT, UPDATE, DELETE and MERGE. A row is written once at most, no column of a unique index is updated,
//! and nothing depends on the order in which rows are found.

use super::tables::{Table, Ty};
use super::{Check, Generator, Source};

/// What INSERT from a query is tried with; every source row has a key of its own.
const FROM_QUERIES: [&str; 14] = [
    "INSERT INTO items SELECT id, person_id, 'made', qty FROM orders WHERE {items}",
    "INSERT INTO mid SELECT id, 'm', v FROM tiny WHERE {tiny} ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v",
    "INSERT INTO tiny (id, v) SELECT id, people_id FROM mid WHERE {mid} ON CONFLICT DO NOTHING",
    "INSERT INTO items (person_id, n) SELECT person_id, count(*) FROM orders WHERE {orders} GROUP BY person_id",
    "INSERT INTO items (person_id, sku) SELECT p.id, o.note FROM people p JOIN orders o ON o.person_id = p.id WHERE p.id < 5",
    "INSERT INTO items (person_id, sku) SELECT 7, sku FROM items WHERE person_id = 7",
    "INSERT INTO items (person_id, n) SELECT id, n FROM terms ORDER BY id LIMIT 3",
    "INSERT INTO terms (id, term) SELECT id + 100, term FROM terms WHERE {terms}",
    "INSERT INTO people (id, name, born) SELECT id + 500, 'm', '2020-01-02' FROM tiny WHERE {tiny} ON CONFLICT DO NOTHING",
    "INSERT INTO orders (id, person_id, total, qty) SELECT id + 5000, id, v * 1.005, v FROM tiny WHERE {tiny} ON CONFLICT DO NOTHING",
    "INSERT INTO countries (code, area, made) SELECT 'm' || id, id, '2020-01-01' FROM mid WHERE {mid} ON CONFLICT (code) DO NOTHING",
    "INSERT INTO mid SELECT person_id * 1000 + id, note, qty FROM orders WHERE {orders} ON CONFLICT DO NOTHING",
    "INSERT INTO notes SELECT 7000 + count(*), sum(v), 'n' FROM tiny WHERE {tiny} ON CONFLICT DO NOTHING",
    "INSERT INTO notes SELECT id + 100, id, v FROM mid WHERE {mid}",
];

/// What MERGE is tried with; every row of the target meets one row of the source at most.
const MERGES: [&str; 14] = [
    "MERGE INTO orders o USING people p ON o.person_id = p.id WHEN MATCHED AND {orders} THEN UPDATE SET note = p.name",
    "MERGE INTO orders o USING people p ON o.person_id = p.id AND o.id = 7000 WHEN MATCHED AND {people} THEN DELETE \
     WHEN NOT MATCHED AND {people} THEN INSERT (id, person_id, qty) VALUES (7000, p.id, p.age)",
    "MERGE INTO items o USING (SELECT id, age FROM people WHERE age > 0) p ON o.person_id = p.id WHEN MATCHED AND {items} \
     THEN UPDATE SET n = p.age WHEN NOT MATCHED THEN INSERT (person_id, n) VALUES (p.id, p.age)",
    "MERGE INTO orders o USING (SELECT id FROM people WHERE id IN (5, 6)) p ON o.person_id = p.id WHEN MATCHED AND {orders} \
     THEN DELETE WHEN NOT MATCHED THEN INSERT (id, person_id) VALUES (7001, p.id)",
    "MERGE INTO people p USING (SELECT {n} AS id, 'm' AS name) v ON p.id = v.id WHEN MATCHED AND {people} THEN UPDATE \
     SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name)",
    "MERGE INTO people p USING (VALUES ({n}), (4), (9)) v (id) ON p.id = v.id WHEN MATCHED AND {people} THEN UPDATE SET age = 7",
    "MERGE INTO mid o USING (VALUES ({n}, 'x'), ({n} + 1, 'y')) v (id, v) ON o.id = v.id WHEN MATCHED THEN DELETE \
     WHEN NOT MATCHED THEN INSERT (id, v) VALUES (v.id, v.v)",
    "MERGE INTO orders o USING countries c ON o.person_id = c.person_id WHEN MATCHED AND {orders} THEN UPDATE SET qty = c.area",
    "MERGE INTO countries c USING (SELECT 'm' || {n} AS code) v ON c.code = v.code WHEN MATCHED THEN DELETE \
     WHEN NOT MATCHED THEN INSERT (code, made) VALUES (v.code, '2020-01-01')",
    "MERGE INTO orders o USING (SELECT max(age) AS age FROM people WHERE id = {n}) p ON o.person_id = {n} AND o.qty = p.age \
     WHEN MATCHED AND {orders} THEN DELETE WHEN NOT MATCHED THEN INSERT (id, person_id) VALUES (7002, {n})",
    "MERGE INTO people p USING (VALUES ({n}, 'm', 1), ({n} + 1, NULL, 2.5), ({n} + 40, 'x', 3)) v (id, name, n) ON p.id = v.id \
     WHEN MATCHED AND {people} THEN UPDATE SET name = v.name, score = v.n / 2 WHEN NOT MATCHED AND v.n > 1 \
     THEN INSERT (id, name, score) VALUES (v.id, v.name, v.n / 2)",
    "MERGE INTO items o USING (SELECT n + {n} AS id, 'n' || n AS sku FROM (VALUES (1), (2), (3), (NULL)) s (n)) s \
     ON o.person_id = s.id WHEN MATCHED AND {items} THEN UPDATE SET sku = s.sku WHEN NOT MATCHED AND s.id > 0 \
     THEN INSERT (person_id, sku) VALUES (s.id, s.sku)",
    "MERGE INTO orders o USING unnest(ARRAY[{n}, {n} + 1, {n} + 2]::bigint[], ARRAY[1, NULL, 3]) AS s (id, n) \
     ON o.person_id = s.id AND o.id = 7003 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, person_id, qty) \
     VALUES (7003, s.id, s.n)",
    "MERGE INTO mid o USING (SELECT v + {n} AS id, count(*) AS n FROM tiny WHERE v IS NOT NULL GROUP BY v) s ON o.id = s.id \
     WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, 'n' || s.n)",
];

impl Generator {
    pub(super) fn write(&mut self) -> (String, Check, Option<&'static str>) {
        let table = self.table();
        let (sql, check, writes) = match self.below(21) {
            0..=7 => self.insert(&table),
            8..=9 => self.insert_from_query(),
            10..=15 => self.update(&table),
            16 => self.merge(),
            _ => self.delete(&table),
        };
        if sql.contains(" RETURNING ") && self.chance(8) {
            let check = Check {
                types: vec![Ty::Int],
                ..Check::default()
            };
            return (
                format!("WITH d AS ({sql}) SELECT count(*) FROM d"),
                check,
                writes,
            );
        }
        (sql, check, writes)
    }

    fn insert(&mut self, table: &Table) -> (String, Check, Option<&'static str>) {
        let mut columns: Vec<(String, Ty)> = Vec::new();
        for column in &table.columns {
            let needed = table.key.contains(&column.name)
                || table.unique.contains(&column.name)
                || column.name == "f"
                || table.name == "countries" && column.name == "made";
            let has_constants = !matches!(column.ty, Ty::Exact(_) | Ty::Loose(_) | Ty::Opaque(_))
                || column.ty == Ty::Exact("mood");
            if needed || has_constants && self.chance(40) {
                columns.push((column.name.clone(), column.ty));
            }
        }
        if self.chance(20) {
            columns.reverse();
        }
        let count = if self.chance(45) {
            1
        } else {
            2 + self.below(4)
        };
        let mut rows = Vec::new();
        for _ in 0..count {
            let mut row = Vec::new();
            for (name, ty) in &columns {
                let is_key = table.key.contains(name) || table.unique.contains(name);
                row.push(self.inserted(table, name, *ty, is_key));
            }
            rows.push(format!("({})", row.join(", ")));
        }
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let mut sql = format!(
            "INSERT INTO {} ({}) VALUES {}",
            table.name,
            names.join(", "),
            rows.join(", ")
        );
        if !table.unique.is_empty() && self.chance(60) {
            let target = table.unique.join(", ");
            let own = table.as_source("");
            let free = self.free_column(&own, table);
            match free {
                Some((name, ty)) if self.chance(60) => {
                    let set = if names.contains(&name.as_str()) && self.chance(70) {
                        format!("EXCLUDED.{name}")
                    } else {
                        self.constant_for(table, &name, ty)
                    };
                    sql += &format!(" ON CONFLICT ({target}) DO UPDATE SET {name} = {set}");
                    if self.chance(25) {
                        sql += &format!(" WHERE {}.{name} IS NOT NULL", table.name);
                    }
                }
                _ if self.chance(50) => sql += " ON CONFLICT DO NOTHING",
                _ => sql += &format!(" ON CONFLICT ({target}) DO NOTHING"),
            }
        }
        self.returning(sql, table, "")
    }

    fn inserted(&mut self, table: &Table, name: &str, ty: Ty, is_key: bool) -> String {
        if is_key && ty == Ty::Int && self.chance(60) {
            // Often a new one.
            let new = 40 + self.below(900);
            return if self.chance(15) {
                self.param(Some(new.to_string()))
            } else {
                new.to_string()
            };
        }
        if !is_key && self.chance(6) {
            return "DEFAULT".to_owned();
        }
        self.constant_for(table, name, ty)
    }

    /// A constant that a column takes, mostly.
    fn constant_for(&mut self, table: &Table, name: &str, ty: Ty) -> String {
        if table.name == "nicks" && ty == Ty::Text {
            return format!("'n{}'", self.below(30));
        }
        if name == "country" || table.name == "people" && name == "nick" {
            let names = ["NO", "DK", "SE", "FI", "IS"];
            return format!("'{}'", names[self.below(5)]);
        }
        if self.chance(20)
            && let Some(plain) = self.plain_text(ty)
        {
            return self.param(Some(plain));
        }
        self.value(ty, &[], 0)
    }

    fn insert_from_query(&mut self) -> (String, Check, Option<&'static str>) {
        let mut sql = (*self.pick(&FROM_QUERIES)).to_owned();
        for (name, from) in [
            ("items", "orders"),
            ("tiny", "tiny"),
            ("mid", "mid"),
            ("orders", "orders"),
            ("terms", "terms"),
        ] {
            let place = format!("{{{name}}}");
            if sql.contains(&place) {
                let table = self.named(from);
                let source = table.as_source("");
                let condition = if self.chance(50) {
                    self.key_condition(&source, &table).unwrap()
                } else {
                    self.condition(&[source], 1)
                };
                sql = sql.replace(&place, &condition);
            }
        }
        let target = sql.split([' ', '(']).nth(2).unwrap_or_default().to_owned();
        let table = self.named(&target);
        self.returning(sql, &table, "")
    }

    fn merge(&mut self) -> (String, Check, Option<&'static str>) {
        let mut sql = (*self.pick(&MERGES)).to_owned();
        let key = self.below(30).to_string();
        sql = sql.replace("{n}", &key);
        for (name, alias) in [("orders", "o"), ("items", "o"), ("people", "p")] {
            let place = format!("{{{name}}}");
            if sql.contains(&place) {
                // Of what is not matched there is no target, so the condition is the source's.
                let source = self.named(name).as_source(alias);
                let condition = self.condition(&[source], 1);
                sql = sql.replace(&place, &condition);
            }
        }
        let target = sql.split(' ').nth(2).unwrap_or_default().to_owned();
        (sql, Check::default(), Some(self.named(&target).name))
    }

    fn named(&self, name: &str) -> Table {
        let found = self.tables.iter().find(|table| table.name == name);
        found.expect("a table's name").clone()
    }

    /// A column that no index has.
    fn free_column(&mut self, source: &Source, table: &Table) -> Option<(String, Ty)> {
        let free: Vec<(String, Ty)> = source
            .columns
            .iter()
            .filter(|column| !table.key.contains(&column.name))
            .filter(|column| !table.unique.contains(&column.name))
            .filter(|column| !matches!(column.ty, Ty::Exact(_) | Ty::Loose(_) | Ty::Opaque(_)))
            .map(|column| (column.name.clone(), column.ty))
            .collect();
        (!free.is_empty()).then(|| self.pick(&free).clone())
    }

    /// WHERE of an UPDATE or DELETE.
    fn rows_to_write(&mut self, own: &Source, table: &Table, scope: &[Source]) -> Vec<String> {
        let mut conditions = Vec::new();
        if self.chance(55) {
            conditions.extend(self.key_condition(own, table));
        }
        if conditions.is_empty() || self.chance(40) {
            conditions.push(self.condition(scope, 1));
        }
        conditions
    }

    fn update(&mut self, table: &Table) -> (String, Check, Option<&'static str>) {
        let alias = if self.chance(40) {
            self.alias()
        } else {
            table.name.to_owned()
        };
        let own = table.as_source(&alias);
        let mut scope = vec![own.clone()];
        let mut sets: Vec<String> = Vec::new();
        // Another table that has one row for each of ours at most.
        let from = self.chance(15) && table.family == "i" && table.name != "people";
        let other = self.named("people");
        let other_alias = self.alias();
        if from {
            scope.push(other.as_source(&other_alias));
        }
        for _ in 0..=self.below(2) {
            let Some((name, ty)) = self.free_column(&own, table) else {
                break;
            };
            let begun = format!("{name} =");
            if sets.iter().any(|set| set.starts_with(&begun)) {
                continue;
            }
            let value = match (name.as_str(), ty) {
                ("country" | "nick", _) => self.constant_for(table, &name, ty),
                // The widest of these columns are of 32 bits.
                (_, Ty::Int) => format!("({}) % 100", self.value(ty, &scope, 1)),
                // A column may hold so many digits, and a zoned time may be infinite.
                (_, Ty::Num) if table.name == "orders" => "total * 1".to_owned(),
                _ => self.value(ty, &scope, 1),
            };
            sets.push(format!("{name} = {value}"));
        }
        if sets.is_empty() {
            return self.delete(table);
        }
        let mut conditions = self.rows_to_write(&own, table, &scope);
        let named = if alias == table.name {
            alias.clone()
        } else {
            format!("{} AS {alias}", table.name)
        };
        let mut sql = format!("UPDATE {named} SET {}", sets.join(", "));
        if from {
            let key = own.reference(&table.key[0]);
            conditions.push(format!("{key} = {other_alias}.id"));
            sql += &format!(" FROM people {other_alias}");
        }
        sql += &format!(" WHERE {}", conditions.join(" AND "));
        self.returning(sql, table, &alias)
    }

    fn delete(&mut self, table: &Table) -> (String, Check, Option<&'static str>) {
        let alias = if self.chance(40) {
            self.alias()
        } else {
            table.name.to_owned()
        };
        let own = table.as_source(&alias);
        let mut scope = vec![own.clone()];
        let using = self.chance(12) && table.family == "i" && table.name != "people";
        let other = self.named("people");
        let other_alias = self.alias();
        if using {
            scope.push(other.as_source(&other_alias));
        }
        let mut conditions = self.rows_to_write(&own, table, &scope);
        let named = if alias == table.name {
            alias.clone()
        } else {
            format!("{} {alias}", table.name)
        };
        let mut sql = format!("DELETE FROM {named}");
        if using {
            let key = own.reference(&table.key[0]);
            conditions.push(format!("{key} = {other_alias}.id"));
            sql += &format!(" USING people {other_alias}");
        }
        sql += &format!(" WHERE {}", conditions.join(" AND "));
        self.returning(sql, table, &alias)
    }

    /// Adds RETURNING, or not.
    fn returning(
        &mut self,
        mut sql: String,
        table: &Table,
        alias: &str,
    ) -> (String, Check, Option<&'static str>) {
        let mut check = Check::default();
        if self.chance(45) {
            let own = table.as_source(alias);
            if self.chance(30) && !sql.contains(" FROM people t") && !sql.contains(" USING ") {
                sql += " RETURNING *";
                check.types = table.columns.iter().map(|column| column.ty).collect();
            } else {
                let scope = [own];
                let mut list = Vec::new();
                self.subqueries = 0;
                for _ in 0..=self.below(3) {
                    let ty = self.some_type(&scope, |_| true);
                    list.push(self.value(ty, &scope, 1));
                    check.types.push(ty);
                }
                sql += &format!(" RETURNING {}", list.join(", "));
            }
        }
        (sql, check, Some(table.name))
    }
}
