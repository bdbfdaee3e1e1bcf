//! The files that a configuration names: pg_hba.conf, pg_ident.conf, PgBouncer's userlist.txt.
//! Whatever is in them, there is a configuration or a list of mistakes.

#![no_main]

use libfuzzer_sys::fuzz_target;

const CONFIG: &str = "[auth]\nusers_file = \"it\"\n\
    hba_file = \"it\"\nident_file = \"it\"\n[users.a]\nauth = \"trust\"\n\
    [databases.d]\nservers = [\"127.0.0.1:5432\"]\n";

fuzz_target!(|input: &[u8]| {
    let directory = std::env::temp_dir().join(format!("ringway-fuzz-{}", std::process::id()));
    let _ = std::fs::create_dir(&directory);
    std::fs::write(directory.join("it"), input).unwrap();
    for key in ["users_file", "hba_file", "ident_file"] {
        let other = |line: &&str| !line.contains("\"it\"") || line.starts_with(key);
        let text: Vec<_> = CONFIG.lines().filter(other).collect();
        let path = directory.join("ringway.toml");
        if let Err(mistakes) = ringway::config::parse(&text.join("\n"), &path, &|_| None) {
            assert!(!mistakes.to_string().is_empty());
        }
    }
});
