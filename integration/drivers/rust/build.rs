//! Tells the programs which versions of their drivers Cargo.lock holds.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").unwrap();
    for (name, variable) in [
        ("tokio-postgres", "TOKIO_POSTGRES_VERSION"),
        ("sqlx", "SQLX_VERSION"),
    ] {
        let after = lock
            .split_once(&format!("name = \"{name}\"\nversion = \""))
            .unwrap()
            .1;
        println!(
            "cargo::rustc-env={variable}={}",
            after.split('"').next().unwrap()
        );
    }
}
