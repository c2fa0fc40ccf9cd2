//! Connections that delivery keeps to itself.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::time::timeout;

use crate::record::{self, RecordError};

/// A pool of so many connections can spare three for the length of a round: a scan takes six.
const CAN_SPARE: u32 = 10;
/// Of a database that is there.
const ANSWERS_WITHIN: Duration = Duration::from_mins(1);

/// A connection for one group after another, set up for that, and closed when the round ends. Where the pool is small each
/// group borrows one for the length of a transaction.
pub(super) struct Lane<'a> {
    pool: &'a PgPool,
    forgettable: bool,
    own: Option<PoolConnection<Postgres>>,
}

/// A lane at work: each statement commits by itself, or all of them with [`Lane::done`].
pub(super) enum Work {
    Own(PoolConnection<Postgres>),
    Borrowed(Transaction<'static, Postgres>),
}

impl<'a> Lane<'a> {
    /// What a forgettable one does a crash of the database may undo.
    pub(super) fn of(pool: &'a PgPool, forgettable: bool) -> Self {
        Self { pool, forgettable, own: None }
    }

    /// Whether it has a connection of its own.
    pub(super) fn is_open(&self) -> bool {
        self.own.is_some()
    }

    pub(super) async fn work(&mut self) -> Result<Work, RecordError> {
        if let Some(own) = self.own.take() {
            return Ok(Work::Own(own));
        }
        if self.pool.options().get_max_connections() < CAN_SPARE {
            let begin = if self.forgettable { record::BEGIN_FORGETTABLE } else { record::BEGIN };
            return Ok(Work::Borrowed(self.pool.begin_with(begin).await?));
        }
        let mut own = self.pool.acquire().await?;
        // Nobody else gets it with these settings.
        own.close_on_drop();
        record::set_up(&mut own, self.forgettable).await?;
        Ok(Work::Own(own))
    }

    /// After a failure this is not called, and the connection is gone.
    pub(super) async fn done(&mut self, work: Work) -> Result<(), RecordError> {
        match work {
            Work::Own(own) => self.own = Some(own),
            Work::Borrowed(transaction) => transaction.commit().await?,
        }
        Ok(())
    }
}

impl Deref for Work {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Own(own) => own,
            Self::Borrowed(transaction) => transaction,
        }
    }
}

impl DerefMut for Work {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(own) => own,
            Self::Borrowed(transaction) => transaction,
        }
    }
}

/// A database that does not answer for so long is gone: its machine may have vanished without a word, and nothing else
/// would tell.
pub(super) async fn in_time<T>(asking: impl Future<Output = Result<T, RecordError>>) -> Result<T, RecordError> {
    let gone = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within a minute");
    timeout(ANSWERS_WITHIN, asking).await.unwrap_or_else(|_| Err(sqlx::Error::Io(gone()).into()))
}
