//! The brakes, each at its edge.

use dunningd::decide::brake;
use dunningd::model::{BrakeCode, ChangedAccount, LastRamp, Release, RunFigures};

use crate::support::world::World;

/// A run of a ledger that was written about before.
fn figures(notices: u64) -> RunFigures {
    RunFigures { notices, forecast: None, accepted_before: true, last_ramp: None, changed_accounts: Vec::new() }
}

/// `all`, `ramp 10`, or the brakes that hold.
fn check(figures: &RunFigures, wanted: &str) {
    let said = match brake(figures, &World::new().policy.brake) {
        Release::All => "all".to_owned(),
        Release::Ramp { limit, braked, .. } => format!("ramp {limit} {}", braked.brake.as_str()),
        Release::Hold(braked) => {
            let codes: Vec<&str> = braked.iter().map(|one| BrakeCode::as_str(one.brake)).collect();
            format!("hold {}", codes.join(" "))
        }
    };
    assert_eq!(said, wanted, "{figures:?}");
}

#[test]
fn a_run_may_send_so_many_and_not_one_more() {
    check(&figures(100), "all");
    check(&figures(101), "hold notices_per_run");
}

#[test]
fn a_run_may_exceed_its_forecast_by_half_and_twenty() {
    let expecting = |forecast, notices| RunFigures { forecast: Some(forecast), ..figures(notices) };
    check(&expecting(10, 35), "all");
    check(&expecting(10, 36), "hold forecast");
    check(&expecting(0, 20), "all");
    check(&expecting(0, 21), "hold forecast");
    check(&expecting(10, 101), "hold notices_per_run forecast");
}

#[test]
fn the_first_runs_send_ten_then_twice_as_many() {
    let first = |notices| RunFigures { accepted_before: false, ..figures(notices) };
    check(&first(10), "all");
    check(&first(11), "ramp 10 first_runs");
    let after =
        |limit, sent_today, notices| RunFigures { last_ramp: Some(LastRamp { limit, sent_today }), ..figures(notices) };
    check(&after(10, None, 20), "all");
    check(&after(10, None, 21), "ramp 20 first_runs");
    check(&after(10, Some(10), 1), "ramp 0 first_runs");
    check(&after(10, Some(4), 6), "all");
    // Nothing of the last one was accepted: no more than that.
    check(&RunFigures { accepted_before: false, ..after(10, None, 11) }, "ramp 10 first_runs");
    // Never more than a run may send.
    check(&after(80, None, 200), "ramp 100 first_runs");
}

#[test]
fn a_changed_bank_account_always_holds() {
    let changed = ChangedAccount {
        currency: "EUR".to_owned(),
        old: "OLD".to_owned(),
        new: "NEW".to_owned(),
        notices: 1,
        example: "A1".to_owned(),
    };
    check(&RunFigures { changed_accounts: vec![changed], ..figures(1) }, "hold bank_account");
}
