//! The page of a dossier, for people: one file that loads nothing, every value escaped.

use serde_json::Value;
use tera::{Context, Tera};

/// The page from the dossier's index.json.
///
/// # Errors
/// When the index lacks something that the page shows.
pub fn dossier_page(index: &Value) -> Result<String, String> {
    let mut tera = Tera::default();
    let name = "dossier.html";
    let told = |error: tera::Error| error.to_string();
    tera.add_raw_template(name, include_str!("dossier.html")).map_err(told)?;
    let mut context = Context::new();
    context.insert("d", index);
    tera.render(name, &context).map_err(told)
}
