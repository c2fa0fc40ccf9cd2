//! What could be claimed now: whoever asks hears the same.

use dunningd::record;
use sqlx::{Acquire as _, AssertSqlSafe, PgConnection, PgTransaction};
use uuid::Uuid;

use crate::support::shell::Office;

const STATES: [&str; 8] =
    ["queued", "deferred", "claimed", "in_flight", "accepted", "unknown", "awaiting_approval", "cancelled"];
const MOMENTS: [&str; 3] = ["NULL", "clock_timestamp() - interval '1 hour'", "clock_timestamp() + interval '1 hour'"];
const WINDOWS: [&str; 4] = [
    "NULL",
    "tstzmultirange(tstzrange(now() - interval '1 hour', now() + interval '1 hour'))",
    "tstzmultirange(tstzrange(now() + interval '1 hour', now() + interval '2 hours'))",
    "tstzmultirange(tstzrange(now() - interval '2 hours', now() - interval '1 hour'))",
];

/// How many notices the claim gets after those changes; who asks whether there are any, and how many, hears the same.
async fn claimed(transaction: &mut PgTransaction<'_>, changes: &str) -> usize {
    let mut point = transaction.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(changes.to_owned())).execute(&mut *point).await.unwrap();
    let connection: &mut PgConnection = &mut point;
    let due = record::anything_due(connection, &[]).await.unwrap();
    let waiting: i64 = record::waiting(connection).await.unwrap().iter().map(|(_, count)| count).sum();
    let claimed = record::claim(connection, &[Uuid::now_v7(), Uuid::now_v7()], Uuid::now_v7(), 60, &[]).await.unwrap();
    assert_eq!((due, waiting), (!claimed.is_empty(), i64::try_from(claimed.len()).unwrap()), "{changes}");
    point.rollback().await.unwrap();
    claimed.len()
}

#[tokio::test]
async fn the_claim_and_who_asks_about_it_agree_in_every_state_of_a_notice() {
    let office = Office::new().await;
    office.accounts(1).await;
    assert_eq!(office.scan().await.queued, 1);
    let mut transaction = office.hand.begin().await.unwrap();
    let mut claimable = 0;
    for state in STATES {
        for next_try_at in MOMENTS {
            for lease_until in MOMENTS {
                for not_before in MOMENTS {
                    for windows in WINDOWS {
                        let changes = format!(
                            "UPDATE dunning.notice SET state = '{state}', next_try_at = {next_try_at},
                                 lease_until = {lease_until}, not_before = {not_before}, send_windows = {windows}"
                        );
                        claimable += claimed(&mut transaction, &changes).await;
                    }
                }
            }
        }
    }
    // Queued and deferred with two moments of three, any lease, two starts, three windows; claimed with one lease.
    assert_eq!(claimable, 2 * (2 * 3 * 2 * 3) + 3 * 2 * 3);
}

#[tokio::test]
async fn nothing_waits_for_delivery_that_is_paused_or_behind_a_breaker() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.scan().await;
    let mut transaction = office.hand.begin().await.unwrap();
    let breaker = |kind: &str, subject: &str, until: &str| {
        format!(
            "INSERT INTO dunning.breaker (kind, subject, failures, opened, cause, until, probing)
             VALUES ('{kind}', '{subject}', 9, 1, 'x', {until}, false)"
        )
    };
    let (later, over) = ("clock_timestamp() + interval '1 hour'", "clock_timestamp() - interval '1 hour'");
    let letter = "tre_aquiloni/friendly/it";
    for (changes, expected) in [
        ("SELECT".to_owned(), 1),
        ("UPDATE dunning.pause SET reason = 'verifica'".to_owned(), 0),
        (breaker("sender", "tre_aquiloni", later), 0),
        (breaker("sender", "tre_aquiloni", over), 1),
        (breaker("sender", "trzy_latawce", later), 1),
        (breaker("content", letter, later), 0),
        (breaker("content", letter, over), 1),
        (breaker("relay", "127.0.0.1:25", later), 1),
    ] {
        assert_eq!(claimed(&mut transaction, &changes).await, expected, "{changes}");
    }
}
