//! A letter and a language become subject, text, HTML and attachments; pure, fails closed.
//!
//! [`TemplateSet`] is loaded once and checked as a whole; [`TemplateSet::render`] then turns a [`crate::model::Letter`]
//! into what is sent. One Markdown source gives the plain text and the HTML. Nothing that a debtor is called can change
//! what a letter looks like or where it links to.

mod attachment;
mod blocks;
mod clean;
mod context;
mod contract;
mod dossier;
mod files;
mod filters;
mod finding;
mod fixtures;
mod greeting;
mod labels;
mod layout;
mod load;
pub mod locale;
mod markdown;
mod scan;
mod set;
pub mod words;

pub use contract::reference;
pub use dossier::dossier_page;
pub use files::FILES;
pub use finding::TemplateFinding;
pub use set::{RenderError, TemplateSet};
