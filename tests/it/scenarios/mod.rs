//! The rule as cases: each one that a real dunning system got wrong, or that ours must get right.

mod amounts;
mod days;
mod holds;
mod items;
mod properties;
mod sending;
mod stages;
