//! What must hold before any account is looked at.

use sqlx::PgConnection;

use crate::config::Recipients;
use crate::daemon::ScanError;
use crate::daemon::schedule::{payments_at_most, payments_needed};
use crate::ledger;
use crate::model::{Freshness, Mode, RefusalCode};
use crate::record;

use super::{Run, local, not_adopted};

impl Run<'_> {
    /// The guards before any account is looked at.
    pub(super) async fn guard(
        &self,
        connection: &mut PgConnection,
        freshness: Option<Freshness>,
    ) -> Result<(), ScanError> {
        let refused = |code, detail| ScanError::Refused { creditor: self.creditor.id.clone(), code, detail };
        if !self.request.dry_run {
            let identity = record::identity(connection, &self.shell.host).await?;
            if !identity.adopted {
                return Err(refused(RefusalCode::NotAdopted, not_adopted(&identity)));
            }
            let nobody = matches!(self.recipients(), Some(Recipients::Domains(domains)) if domains.is_empty());
            if nobody && record::mode(connection).await?.mode != Mode::Shadow {
                return Err(refused(
                    RefusalCode::NoRecipients,
                    "environment is \"test\" and the transport is smtp: set `allow_domains` (whose debtors may be \
                     written to) or `redirect_to` (your own mailbox) in [mail] of dunningd.toml; or `dunningd mode \
                     shadow` decides without sending"
                        .to_owned(),
                ));
            }
        }
        if self.request.as_of.is_some() {
            return Ok(());
        }
        let policy = &self.live.config.policy;
        let last = record::completed_run(connection, &self.creditor.id).await?;
        if let Some(last) = last.filter(|last| *last > self.today) {
            return Err(refused(
                RefusalCode::BeforeLastRun,
                format!(
                    "the business date {} is before the last completed run, {last}; is the clock right?",
                    self.today
                ),
            ));
        }
        let needed =
            payments_needed(self.live.config.service.freshness, &policy.calendars, self.creditor, self.clock.now())
                .map_err(|missing| refused(RefusalCode::CalendarMissing, missing.to_string()))?;
        match freshness {
            Some(freshness) if freshness.payments_as_of > payments_at_most(self.clock.now()) => {
                return Err(refused(
                    RefusalCode::StaleLedger,
                    format!(
                        "payments are said to be known up to {}, which lies in the future; nobody knows what is in",
                        local(freshness.payments_as_of, self.creditor)
                    ),
                ));
            }
            Some(freshness) if freshness.payments_as_of >= needed => {}
            Some(freshness) => {
                let sources = ledger::stale_sources(connection, &self.creditor.id, needed).await?;
                return Err(refused(
                    RefusalCode::StaleLedger,
                    format!(
                        "payments are known up to {}, and {} is needed; import newer payments and scan again (stale in \
                         ledger.freshness: {}; a source that imports no more has to leave it)",
                        local(freshness.payments_as_of, self.creditor),
                        local(needed, self.creditor),
                        sources.join(", ")
                    ),
                ));
            }
            None => {
                return Err(refused(
                    RefusalCode::StaleLedger,
                    "ledger.freshness has no row for this creditor, or one with a time that cannot be, so nobody knows which \
                     payments are in"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn or_accept_ledger(&self) -> String {
        format!(
            "look at the source of the ledger; if it is right, `dunningd scan --creditor {} --accept-ledger --reason …` \
             goes on with it once",
            self.creditor.id
        )
    }

    /// The ledger against what was seen before: a source that lost half of it, or opened it again, is not believed unless a
    /// person says that it is right.
    pub(super) async fn guard_ledger(&self, connection: &mut PgConnection) -> Result<record::Comparison, ScanError> {
        if self.request.as_of.is_some() {
            return Ok(record::Comparison::default());
        }
        let refused = |code, detail| ScanError::Refused { creditor: self.creditor.id.clone(), code, detail };
        let policy = &self.live.config.policy;
        let accepted = self.request.accept_ledger.is_some();
        let known =
            record::compare_known_items(connection, &self.creditor.id, self.today, policy.restore_days, accepted)
                .await?;
        if accepted {
            return Ok(known);
        }
        let limit = known.limit();
        let vanished = known.vanished_count;
        if vanished > limit {
            return Err(refused(
                RefusalCode::LedgerShrunk,
                format!(
                    "{vanished} of {} open items are gone at once (limit {limit}); {}",
                    known.open_before,
                    self.or_accept_ledger()
                ),
            ));
        }
        if known.reopened > limit {
            return Err(refused(
                RefusalCode::LedgerReopened,
                format!("{} settled items are open again (limit {limit}); {}", known.reopened, self.or_accept_ledger()),
            ));
        }
        Ok(known)
    }
}
