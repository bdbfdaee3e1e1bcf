//! Any file is a configuration or a list of mistakes.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let path = std::path::Path::new("/nowhere/ringway.toml");
    match ringway::config::parse(text, path, &|_| None) {
        Ok(config) => {
            ringway::config::entries(&config);
        }
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
});
