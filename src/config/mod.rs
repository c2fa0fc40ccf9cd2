//! Configuration: one typed struct per section; every finding with file, line and column.
