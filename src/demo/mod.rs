//! A world of its own to try dunningd in: a private PostgreSQL, made-up accounts, a mail server.

mod cluster;
mod sink;
mod world;

pub use cluster::{Cluster, ClusterError, ClusterOptions};
pub use sink::{Received, Sink};
pub use world::{LEDGER, business_date, configuration, payments_as_of};
