//! The shell: the only place that knows all the others.
//!
//! `live` is the configuration in force, `scan` decides and records, one `run` per creditor, `compose` turns a decision into a letter,
//! `register` records what people say, `dispatch` delivers, `schedule` says when a run is due, `window` at which hours a notice may leave, `simulate` tries a policy
//! on the past, `lifecycle` is the service: signals, reload, drain.

mod compose;
mod dispatch;
mod lifecycle;
mod live;
mod opening;
mod register;
mod run;
mod scan;
mod schedule;
mod simulate;
mod window;

use std::sync::Arc;

use arc_swap::ArcSwap;
use sqlx::PgPool;

use crate::clock::Clock;
use crate::model::Actor;

pub use compose::{letter, mail};
pub use dispatch::{Dispatched, dispatch, retry_at};
pub use lifecycle::{ServeError, serve};
pub use live::{Live, LoadError, TransportError, destination, load_live, transport};
pub use opening::{OpeningError, import_opening};
pub use register::{
    CallRequest, ContactRequest, EntryError, Parts, PlanRequest, PromiseRequest, agree_plan, call, end_plan,
    enter_contact, plans, promise, promises, waive, withdraw_promise,
};
pub use scan::{Page, RunReport, ScanError, ScanReport, ScanRequest, Spent, check_options, look_at, scan};
pub use schedule::{Due, payments_needed, run_due};
pub use simulate::{
    Difference, Replay, SimulatedContact, SimulationReport, SimulationRequest, SimulationTotals, accounts_to_simulate,
    replay, simulate,
};
pub use window::{SendWindow, send_windows};

/// Everything that work is done with.
pub struct Shell {
    pub pool: PgPool,
    /// Replaced as a whole when a reload finds everything valid.
    pub live: ArcSwap<Live>,
    /// The domain clock.
    pub clock: Clock,
    pub actor: Actor,
}

impl Shell {
    /// A shell over that database with that configuration.
    #[must_use]
    pub fn new(pool: PgPool, live: Live, clock: Clock, actor: Actor) -> Self {
        Self { pool, live: ArcSwap::from_pointee(live), clock, actor }
    }

    /// The configuration in force; stays the same for whoever holds it.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }
}
