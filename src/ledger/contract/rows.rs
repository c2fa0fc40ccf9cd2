//! What only our own types can tell: rows streamed past them, none kept.

use chrono::NaiveDate;
use futures_util::TryStreamExt as _;
use rust_decimal::Decimal;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::check::{
    CURRENCY_NOT_CONFIGURED, CheckOptions, DUE_BEFORE_ISSUE, DUE_DATE_MISSING, INCOMPLETE_ACCOUNT, INCOMPLETE_CONTACT,
    Kind, MISSING_VALUE, NO_USABLE_EMAIL, OPEN_ABOVE_AMOUNT, ORPHAN_ITEM, RESERVED_ID, SETTLED_BUT_OPEN, TOO_FINE,
    Tally, UNKNOWN_COUNTRY, UNKNOWN_CREDITOR, UNKNOWN_CURRENCY, UNKNOWN_KIND, UNKNOWN_LADDER, UNKNOWN_LANGUAGE,
    UNKNOWN_PARTY_KIND, UNKNOWN_TIME_ZONE, UNREADABLE_ACCOUNT_ID, UNREADABLE_DATE, UNREADABLE_REQUISITES,
    UNUSABLE_EMAIL, WRONG_SIGN,
};
use super::item::{
    RawItem, Rule, amount_sql, date_sql, plain_debit_sql, problem, requisites, unreadable_date_sql, unreadable_hold_sql,
};
use super::shape::Promised;
use crate::ledger::snapshots::shown_id;
use crate::model::{AccountId, ContactId, ContactRole, Country, EmailAddress, Language, PartyKind};

pub(super) async fn accounts(
    connection: &mut PgConnection,
    options: &CheckOptions,
    condition: &str,
    tally: &mut Tally,
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "SELECT account_id::text, creditor::text, name::text, party_kind::text, country::text, language::text,
                time_zone::text, {}, requisites::jsonb, ladder::text
         FROM ledger.account a WHERE {condition}",
        unreadable_hold_sql("a")
    );
    let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let Some(id) = row.try_get::<Option<&str>, _>(0)? else { continue };
        let creditor: Option<&str> = row.try_get(1)?;
        let name: Option<&str> = row.try_get(2)?;
        let party_kind: Option<&str> = row.try_get(3)?;
        tally.accounts += 1;
        if AccountId::parse(id).is_err() {
            tally.broken_accounts += 1;
            tally.add(&UNREADABLE_ACCOUNT_ID, shown_id(id));
            continue;
        }
        if [creditor, name, party_kind].iter().any(|value| value.is_none_or(|text| text.trim().is_empty())) {
            tally.broken_accounts += 1;
            tally.add(&INCOMPLETE_ACCOUNT, id);
        } else if party_kind.and_then(PartyKind::parse).is_none() {
            tally.broken_accounts += 1;
            tally.add(&UNKNOWN_PARTY_KIND, id);
        } else if row.try_get::<bool, _>(7)? {
            tally.broken_accounts += 1;
            tally.add(&UNREADABLE_DATE, id);
        } else if requisites(row.try_get(8)?).is_err() {
            tally.broken_accounts += 1;
            tally.add(&UNREADABLE_REQUISITES, id);
        }
        if creditor.is_some_and(|creditor| !options.creditors.contains(creditor)) {
            tally.add(&UNKNOWN_CREDITOR, id);
        }
        let country: Option<&str> = row.try_get(4)?;
        if country.is_some_and(|country| Country::parse(country).is_err()) {
            tally.add(&UNKNOWN_COUNTRY, id);
        }
        let language: Option<&str> = row.try_get(5)?;
        if language.is_some_and(|language| Language::parse(language).is_err()) {
            tally.add(&UNKNOWN_LANGUAGE, id);
        }
        let time_zone: Option<&str> = row.try_get(6)?;
        if time_zone.is_some_and(|zone| zone.parse::<chrono_tz::Tz>().is_err()) {
            tally.add(&UNKNOWN_TIME_ZONE, id);
        }
        let ladder = row.try_get::<Option<&str>, _>(9)?.filter(|ladder| !ladder.trim().is_empty());
        if !options.ladders.is_empty() && ladder.is_some_and(|ladder| !options.ladders.contains(ladder)) {
            tally.add(&UNKNOWN_LADDER, id);
        }
    }
    Ok(())
}

/// The contacts of every account, account by account.
pub(super) async fn contacts(
    connection: &mut PgConnection,
    options: &CheckOptions,
    tally: &mut Tally,
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query(
        "SELECT a.account_id::text, o.account_id IS NOT NULL, c.contact_id::text, c.role::text, c.email::text,
                c.is_primary, c.no_email, c.language::text
         FROM ledger.account a
         LEFT JOIN (SELECT DISTINCT account_id::text AS account_id FROM ledger.item WHERE open_amount > 0) o
             ON o.account_id = a.account_id::text
         LEFT JOIN ledger.contact c ON c.account_id::text = a.account_id::text
         WHERE a.account_id IS NOT NULL
         ORDER BY a.account_id::text COLLATE \"C\"",
    )
    .fetch(connection);
    let mut current: Option<Reach> = None;
    while let Some(row) = rows.try_next().await? {
        let account: &str = row.try_get(0)?;
        if current.as_ref().is_none_or(|reach| reach.account != account) {
            let next = Reach { account: account.to_owned(), owes: row.try_get(1)?, usable: false };
            if let Some(done) = current.replace(next) {
                done.note(tally);
            }
        }
        let Some(contact) = row.try_get::<Option<&str>, _>(2)? else { continue };
        let role: Option<&str> = row.try_get(3)?;
        let is_primary: Option<bool> = row.try_get(5)?;
        let no_email: Option<bool> = row.try_get(6)?;
        let role = role.and_then(ContactRole::parse);
        let is_named = ContactId::parse(contact).is_ok();
        if !is_named || role.is_none() || is_primary.is_none() || no_email.is_none() {
            tally.add(&INCOMPLETE_CONTACT, contact);
        }
        let language: Option<&str> = row.try_get(7)?;
        if language.is_some_and(|language| Language::parse(language).is_err()) {
            tally.add(&UNKNOWN_LANGUAGE, contact);
        }
        let email: Option<&str> = row.try_get(4)?;
        let Some(email) = email.filter(|email| !email.trim().is_empty()) else { continue };
        let usable = EmailAddress::parse(email).is_ok_and(|address| !options.own_domains.contains(address.domain()));
        if !usable {
            tally.add(&UNUSABLE_EMAIL, contact);
        }
        // A legal contact gets no reminders.
        let reminders = is_named && role.is_some_and(|role| role != ContactRole::Legal) && no_email == Some(false);
        if let Some(reach) = &mut current {
            reach.usable |= usable && reminders;
        }
    }
    if let Some(done) = current {
        done.note(tally);
    }
    Ok(())
}

/// Whether an account that owes something can be written to.
struct Reach {
    account: String,
    owes: bool,
    usable: bool,
}

impl Reach {
    fn note(self, tally: &mut Tally) {
        if self.owes && !self.usable {
            tally.add(&NO_USABLE_EMAIL, self.account);
        }
    }
}

/// The items that are still open, each once with its account.
fn open_items(promised: &Promised) -> String {
    // Several processes of the server share a table, but each would make the distinct ids for itself.
    let accounts = if promised.is_unique("account", "account_id") {
        "ledger.account"
    } else {
        "(SELECT DISTINCT account_id::text AS account_id FROM ledger.account)"
    };
    format!(
        "FROM ledger.item i LEFT JOIN {accounts} a ON a.account_id::text = i.account_id::text
         WHERE (i.open_amount IS NULL OR i.open_amount <> 0)"
    )
}

/// The items that are still open: a settled one with a fault harms nobody.
pub(super) async fn items(
    connection: &mut PgConnection,
    options: &CheckOptions,
    promised: &Promised,
    condition: &str,
    tally: &mut Tally,
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "SELECT i.item_id::text, a.account_id IS NOT NULL, i.kind::text, i.document_no::text, i.currency::text,
                {}, {}, {}, {}, {}, i.requisites::jsonb,
                i.open_amount <> 0 AND dunning.is_settled(i.open_amount::numeric, i.settled_on::date, date '{}')
         {} AND {condition}",
        amount_sql("i.amount"),
        amount_sql("i.open_amount"),
        date_sql("i.issue_date"),
        date_sql("i.due_date"),
        unreadable_date_sql(),
        options.now.date_naive(),
        open_items(promised),
    );
    let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let Some(id) = row.try_get::<Option<&str>, _>(0)? else { continue };
        tally.open_items += 1;
        let raw = RawItem {
            item_id: id,
            kind: row.try_get(2)?,
            document_no: row.try_get(3)?,
            currency: row.try_get(4)?,
            amount: row.try_get::<Option<Decimal>, _>(5)?,
            open_amount: row.try_get::<Option<Decimal>, _>(6)?,
            issue_date: row.try_get::<Option<NaiveDate>, _>(7)?,
            due_date: row.try_get::<Option<NaiveDate>, _>(8)?,
            unreadable_date: row.try_get(9)?,
        };
        let kind = if row.try_get::<bool, _>(1)? {
            let unpayable = requisites(row.try_get(10)?).err().map(|_| &UNREADABLE_REQUISITES);
            problem(&raw).map(|problem| of(problem.rule)).or(unpayable)
        } else {
            Some(&ORPHAN_ITEM)
        };
        if row.try_get::<Option<bool>, _>(11)? == Some(true) {
            tally.add(&SETTLED_BUT_OPEN, id);
        }
        if let Some(kind) = kind {
            tally.broken_items += 1;
            tally.add(kind, id);
        } else if !options.currencies.is_empty()
            && raw.currency.is_some_and(|currency| !options.currencies.contains(currency))
        {
            tally.add(&CURRENCY_NOT_CONFIGURED, id);
        }
    }
    Ok(())
}

/// Counts the open items that plainly keep the contract where they are, and reads only the others.
pub(super) async fn doubtful_items(
    connection: &mut PgConnection,
    options: &CheckOptions,
    promised: &Promised,
    tally: &mut Tally,
) -> Result<(), sqlx::Error> {
    let plain = plain_debit_sql(options.currencies.iter().map(String::as_str));
    // Most items have none of these; one function is quicker than a look at each.
    let plain = format!(
        "(a.account_id IS NOT NULL AND {plain}
          AND (num_nonnulls(i.settled_on, i.written_off_on, i.disputed_since, i.hold_until, i.direct_debit_on,
                            i.requisites) = 0
               OR i.requisites IS NULL AND {} IS NULL))",
        unreadable_date_sql()
    );
    let statement = format!("SELECT count(*) FILTER (WHERE {plain}), count(*) {}", open_items(promised));
    let (sound, all): (i64, i64) = sqlx::query_as(AssertSqlSafe(statement)).fetch_one(&mut *connection).await?;
    tally.open_items += sound.unsigned_abs();
    if all == sound { Ok(()) } else { items(connection, options, promised, &format!("NOT {plain}"), tally).await }
}

/// Counts the accounts that plainly keep the contract, and reads only the others.
pub(super) async fn doubtful_accounts(
    connection: &mut PgConnection,
    options: &CheckOptions,
    tally: &mut Tally,
) -> Result<(), sqlx::Error> {
    let kinds: Vec<String> = PartyKind::ALL.iter().map(|kind| format!("'{}'", kind.as_str())).collect();
    // A text is surely more than white space when its first character is a letter, digit or sign of these blocks.
    let said = |column: &str| {
        format!("(ascii({column}::text) BETWEEN 33 AND 126 OR ascii({column}::text) BETWEEN 192 AND 5000)")
    };
    let plain = format!(
        "coalesce(length(account_id::text) BETWEEN 1 AND 200 AND account_id::text COLLATE \"C\" !~ '[^ -~]'
                  AND {} AND {} AND party_kind::text IN ({}) AND requisites IS NULL AND NOT {}, false)",
        said("creditor"),
        said("name"),
        kinds.join(", "),
        unreadable_hold_sql("a")
    );
    let statement = format!("SELECT count(*) FILTER (WHERE {plain}), count(*) FROM ledger.account a");
    let (sound, all): (i64, i64) = sqlx::query_as(AssertSqlSafe(statement)).fetch_one(&mut *connection).await?;
    tally.accounts += sound.unsigned_abs();
    if all == sound { Ok(()) } else { accounts(connection, options, &format!("NOT {plain}"), tally).await }
}

fn of(rule: Rule) -> &'static Kind {
    match rule {
        Rule::Missing => &MISSING_VALUE,
        Rule::UnreadableDate => &UNREADABLE_DATE,
        Rule::UnknownKind => &UNKNOWN_KIND,
        Rule::UnknownCurrency => &UNKNOWN_CURRENCY,
        Rule::ReservedId => &RESERVED_ID,
        Rule::WrongSign => &WRONG_SIGN,
        Rule::OpenAboveAmount => &OPEN_ABOVE_AMOUNT,
        Rule::TooFine => &TOO_FINE,
        Rule::DueDateMissing => &DUE_DATE_MISSING,
        Rule::DueBeforeIssue => &DUE_BEFORE_ISSUE,
    }
}
