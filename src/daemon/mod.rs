//! The shell: the only place that knows all the others.
//!
//! `live` is the configuration in force, `scan` decides and records, one `run` per creditor, `compose` turns a decision
//! into a letter, `register` records what people say, `approval` is what they let out, `dispatch` delivers, `breakers`
//! stop it, `replies` remembers what relays said, `schedule` says when a run is due, `window` at which hours a notice may leave, `simulate` tries a policy on
//! the past, `upkeep` signs checkpoints and ends retention, `dossier` tells all about one account, `evidence` what is known
//! of a notice that a person has to resolve, `digest` tells the operator, `lifecycle` is the service: signals, reload, drain.

mod approval;
mod breakers;
mod compose;
mod digest;
mod dispatch;
mod dossier;
mod evidence;
mod host;
mod lifecycle;
mod live;
mod opening;
mod register;
mod replies;
mod run;
mod scan;
mod schedule;
mod signed;
mod simulate;
mod upkeep;
mod window;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use sqlx::PgPool;

use crate::clock::Clock;
use crate::deliver::{Journal, Pace};
use crate::model::Actor;

pub use approval::{Approved, PutOff, approve, drop_waiting};
pub use compose::{letter, mail};
pub use digest::{
    Alarm, OperatorText, alarm_text, checkpoint_text, delivery_alarm_text, digest_text, log_alarm_text,
    send_operator_mails, write_alarms, write_checkpoint, write_delivery_alarms, write_digest, write_log_alarm,
    write_stopped_alarm,
};
pub use dispatch::{Dispatched, dispatch};
pub use dossier::{DossierError, dossier};
pub use evidence::{Evidence, Looked, evidence};
pub use host::host_id;
pub use lifecycle::{ServeError, serve, stop_on_signals};
pub use live::{Live, LoadError, TransportError, destination, load_live, transport};
pub use opening::{OpeningError, import_opening};
pub use register::{
    CallRequest, ContactRequest, EntryError, LadderMove, Parts, PlanRequest, PromiseRequest, agree_plan, call,
    end_plan, enter_contact, ladder_move, move_ladder, plans, promise, promises, task_done, waive, withdraw_promise,
};
pub use replies::{StateError, accept_database, journal};
pub use scan::{
    Page, RunReport, ScanError, ScanReport, ScanRequest, Spent, accept_clock, check_clocks, check_options, look_at,
    scan, standing, status,
};
pub use schedule::{ClockTrouble, Due, clock_trouble, payments_needed, run_due, runs_missing};
pub use signed::{SignedError, signed_here};
pub use simulate::{
    Difference, ReasonDays, Replay, SimulatedContact, SimulationReport, SimulationRequest, SimulationTotals,
    accounts_to_simulate, replay, simulate,
};
pub use upkeep::{AnchorError, anchor, anchor_after_run, anchor_when_due, end_retention, signing_key};
pub use window::{SendWindow, send_windows};

/// Everything that work is done with.
pub struct Shell {
    pub pool: PgPool,
    /// Replaced as a whole when a reload finds everything valid.
    pub live: ArcSwap<Live>,
    /// The domain clock.
    pub clock: Clock,
    pub actor: Actor,
    /// What this process sent lately.
    pace: Mutex<Pace>,
    /// What relays answered; opened by whoever delivers first.
    journal: tokio::sync::Mutex<Option<Arc<Journal>>>,
    /// Which machine this is: a database is adopted for it.
    pub host: String,
}

impl Shell {
    /// A shell over that database with that configuration.
    #[must_use]
    pub fn new(pool: PgPool, live: Live, clock: Clock, actor: Actor) -> Self {
        Self {
            pool,
            live: ArcSwap::from_pointee(live),
            clock,
            actor,
            pace: Mutex::default(),
            journal: tokio::sync::Mutex::default(),
            host: host_id(),
        }
    }

    /// The configuration in force; stays the same for whoever holds it.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
