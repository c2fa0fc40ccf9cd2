//! Embeds new migrations: without this, adding a file would not rebuild the crate.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
