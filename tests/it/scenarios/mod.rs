//! The rule as cases: each one that a real dunning system got wrong, or that ours must get right.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be built is a broken test")]

mod amounts;
mod channels;
mod days;
mod holds;
mod items;
mod lives;
mod plans;
mod properties;
mod register;
mod release;
mod remedies;
mod replay;
mod sending;
mod stages;
mod trail;
