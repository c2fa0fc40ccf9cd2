//! The shell: the only place that knows all the others.
