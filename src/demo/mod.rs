//! A world of its own to try dunningd in: a private PostgreSQL, made-up accounts, a mail server.

mod cluster;

pub use cluster::{Cluster, ClusterError, ClusterOptions};
