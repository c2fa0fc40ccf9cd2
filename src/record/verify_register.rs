//! What people recorded, against the events that told of it.

use sqlx::PgConnection;

use super::RecordError;

/// Every entry of the register, with its end, against the event that tells of it: holds, disputes, causes, promises, plans,
/// waivers, write-offs, hand-overs, calls, contacts, legal holds, and the pause. Returns one line per contradiction. What an
/// account owed when it was handed over is in no event. Needs columns for look-ups that hold.
///
/// # Errors
/// When the database refuses.
pub async fn verify_register(connection: &mut PgConnection) -> Result<Vec<String>, RecordError> {
    let altered = sqlx::query_scalar!(
        r#"WITH event AS (
               SELECT e.seq, e.kind, said ->> 'account' AS account, said ->> 'person' AS person, said -> 'facts' AS f
               FROM dunning.event e
               CROSS JOIN LATERAL (SELECT convert_from(e.bytes, 'UTF8')::jsonb -> 'event' AS said) event
               WHERE e.kind IN ('hold_placed', 'hold_released', 'dispute_recorded', 'dispute_resolved', 'stage_waived',
                   'opening_imported', 'call_logged', 'promise_made', 'promise_withdrawn', 'account_handed_over',
                   'account_taken_back', 'plan_agreed', 'plan_restructured', 'plan_ended', 'cause_recorded',
                   'cause_cleared', 'contact_entered', 'contact_removed', 'written_off', 'write_off_undone',
                   'legal_hold_placed', 'legal_hold_lifted', 'paused', 'resumed')
           ), plan_version AS (
               SELECT seq, account, person, f, f ->> 'plan' AS number, f ->> 'version' AS version,
                      lead(seq) OVER (PARTITION BY f ->> 'plan' ORDER BY seq) AS next_seq
               FROM event WHERE kind IN ('plan_agreed', 'plan_restructured')
           ), contact AS (
               SELECT seq, kind, account, person, f,
                      lead(seq) OVER w AS next_seq, lead(person) OVER w AS next_person,
                      lead(f ->> 'reason') OVER w AS next_reason
               FROM event WHERE kind IN ('contact_entered', 'contact_removed')
               WINDOW w AS (PARTITION BY account, f ->> 'contact' ORDER BY seq)
           ), said AS (
               SELECT seq, 'hold ' || (f ->> 'hold') AS entry,
                      jsonb_build_array(account, f -> 'item', f -> 'cause', f -> 'since', f -> 'until', f -> 'reason',
                                        person) AS words
               FROM event WHERE kind IN ('hold_placed', 'dispute_recorded')
               UNION ALL
               SELECT seq, 'the end of hold ' || number, jsonb_build_array(f -> 'reason', person)
               FROM event, jsonb_array_elements_text(f -> 'holds') AS number
               WHERE kind IN ('hold_released', 'dispute_resolved')
               UNION ALL
               SELECT seq, 'cause ' || (f ->> 'number'),
                      jsonb_build_array(account, f -> 'item', f -> 'cause', f -> 'since', f -> 'reason', person)
               FROM event WHERE kind = 'cause_recorded'
               UNION ALL
               SELECT seq, 'the end of cause ' || number, jsonb_build_array(f -> 'reason', person)
               FROM event, jsonb_array_elements_text(f -> 'numbers') AS number WHERE kind = 'cause_cleared'
               UNION ALL
               SELECT seq, 'promise ' || (f ->> 'promise'),
                      jsonb_build_array(account, trim_scale((f ->> 'amount')::numeric), f -> 'currency', f -> 'made_on',
                          f -> 'by_day', f ->> 'tolerance_days', f -> 'reason', person,
                          ARRAY(SELECT concat_ws('|', trim_scale((i ->> 'open')::numeric), i ->> 'item')
                                FROM jsonb_array_elements(f -> 'items') AS i ORDER BY 1))
               FROM event WHERE kind = 'promise_made'
               UNION ALL
               SELECT seq, 'the end of promise ' || (f ->> 'promise'), jsonb_build_array(f -> 'reason', person)
               FROM event WHERE kind = 'promise_withdrawn'
               UNION ALL
               SELECT seq, format('plan %s, version %s', number, version),
                      jsonb_build_array(account, f -> 'currency', f -> 'agreed_on', f ->> 'tolerance_days',
                          f -> 'on_missed', f -> 'reason', person,
                          ARRAY(SELECT concat_ws('|', trim_scale((i ->> 'open')::numeric), i ->> 'item')
                                FROM jsonb_array_elements(f -> 'items') AS i ORDER BY 1),
                          ARRAY(SELECT concat_ws('|', i ->> 'number', i ->> 'due_on', trim_scale((i ->> 'amount')::numeric))
                                FROM jsonb_array_elements(f -> 'instalments') AS i ORDER BY 1))
               FROM plan_version
               UNION ALL
               SELECT e.seq, format('the end of plan %s, version %s', v.number, v.version),
                      jsonb_build_array(coalesce(e.f -> 'ended_on', e.f -> 'agreed_on'), e.f -> 'reason', e.person)
               FROM plan_version v
               JOIN event e ON e.f ->> 'plan' = v.number AND e.kind IN ('plan_ended', 'plan_restructured')
                   AND e.seq > v.seq AND (v.next_seq IS NULL OR e.seq <= v.next_seq)
               UNION ALL
               SELECT seq, format('waiver of stage %s of item %s', f ->> 'stage', f ->> 'item'),
                      jsonb_build_array(account, f -> 'due_on', f -> 'since', false, f -> 'reason', person)
               FROM event WHERE kind = 'stage_waived'
               UNION ALL
               SELECT seq, format('waiver of stage %s of item %s', one ->> 'stage', one ->> 'item'),
                      jsonb_build_array(account, one -> 'done_on', one -> 'done_on', true, one -> 'reason', one -> 'by')
               FROM event, jsonb_array_elements(f -> 'stages') AS one WHERE kind = 'opening_imported'
               UNION ALL
               SELECT seq, 'write-off ' || (f ->> 'write_off'),
                      jsonb_build_array(account, f -> 'item', f -> 'since', f -> 'reason', person)
               FROM event WHERE kind = 'written_off'
               UNION ALL
               SELECT seq, 'the end of write-off ' || (f ->> 'write_off'), jsonb_build_array(f -> 'reason', person)
               FROM event WHERE kind = 'write_off_undone'
               UNION ALL
               SELECT seq, 'hand-over ' || (f ->> 'handover'),
                      jsonb_build_array(account, f -> 'to', f -> 'since', f -> 'reason', person)
               FROM event WHERE kind = 'account_handed_over'
               UNION ALL
               SELECT seq, 'the end of hand-over ' || (f ->> 'handover'), jsonb_build_array(f -> 'reason', person)
               FROM event WHERE kind = 'account_taken_back'
               UNION ALL
               SELECT seq, 'call ' || (f ->> 'call'),
                      jsonb_build_array(account, f -> 'outcome', f -> 'called_on', person)
               FROM event WHERE kind = 'call_logged'
               UNION ALL
               SELECT seq, 'contact entry ' || (f ->> 'entry'),
                      jsonb_build_array(account, f -> 'contact', f -> 'role', f -> 'no_email', f -> 'language',
                                        f -> 'since', f -> 'reason', person)
               FROM contact WHERE kind = 'contact_entered'
               UNION ALL
               SELECT next_seq, 'the end of contact entry ' || (f ->> 'entry'),
                      jsonb_build_array(next_reason, next_person)
               FROM contact WHERE kind = 'contact_entered' AND next_seq IS NOT NULL
               UNION ALL
               SELECT seq, 'legal hold ' || (f ->> 'legal_hold'), jsonb_build_array(account, f -> 'reason', person)
               FROM event WHERE kind = 'legal_hold_placed'
               UNION ALL
               SELECT seq, 'the end of legal hold ' || (f ->> 'legal_hold'), jsonb_build_array(f -> 'reason', person)
               FROM event WHERE kind = 'legal_hold_lifted'
               UNION ALL
               SELECT seq, 'the pause', words
               FROM (SELECT seq, kind, jsonb_build_array(f -> 'reason', person) AS words FROM event
                     WHERE kind IN ('paused', 'resumed') ORDER BY seq DESC LIMIT 1) AS last
               WHERE kind = 'paused'
           ), stands AS (
               SELECT 'hold ' || hold_id AS entry,
                      jsonb_build_array(account_id, item_id, cause, since, until, reason, placed_by) AS words
               FROM dunning.hold
               UNION ALL
               SELECT 'the end of hold ' || hold_id, jsonb_build_array(release_reason, released_by)
               FROM dunning.hold WHERE released_at IS NOT NULL
               UNION ALL
               SELECT 'cause ' || cause_id, jsonb_build_array(account_id, item_id, cause, since, reason, recorded_by)
               FROM dunning.cause
               UNION ALL
               SELECT 'the end of cause ' || cause_id, jsonb_build_array(cleared_reason, cleared_by)
               FROM dunning.cause WHERE cleared_at IS NOT NULL
               UNION ALL
               SELECT 'promise ' || p.promise_id,
                      jsonb_build_array(p.account_id, trim_scale(p.amount), p.currency, p.made_on, p.by_day,
                          p.tolerance_days::text, p.reason, p.made_by,
                          ARRAY(SELECT concat_ws('|', trim_scale(i.open_then), i.item_id)
                                FROM dunning.promise_item i WHERE i.promise_id = p.promise_id ORDER BY 1))
               FROM dunning.promise p
               UNION ALL
               SELECT 'the end of promise ' || promise_id, jsonb_build_array(withdrawn_reason, withdrawn_by)
               FROM dunning.promise WHERE withdrawn_at IS NOT NULL
               UNION ALL
               SELECT format('plan %s, version %s', p.plan_id, p.version),
                      jsonb_build_array(p.account_id, p.currency, p.agreed_on, p.tolerance_days::text, p.on_missed,
                          p.reason, p.agreed_by,
                          ARRAY(SELECT concat_ws('|', trim_scale(i.open_then), i.item_id) FROM dunning.plan_item i
                                WHERE (i.plan_id, i.version) = (p.plan_id, p.version) ORDER BY 1),
                          ARRAY(SELECT concat_ws('|', i.number, i.due_on, trim_scale(i.amount))
                                FROM dunning.plan_instalment i
                                WHERE (i.plan_id, i.version) = (p.plan_id, p.version) ORDER BY 1))
               FROM dunning.plan p
               UNION ALL
               SELECT format('the end of plan %s, version %s', plan_id, version),
                      jsonb_build_array(ended_on, ended_reason, ended_by)
               FROM dunning.plan WHERE ended_at IS NOT NULL
               UNION ALL
               SELECT format('waiver of stage %s of item %s', stage, item_id),
                      jsonb_build_array(account_id, waived_on, since, elsewhere, reason, waived_by)
               FROM dunning.waiver
               UNION ALL
               SELECT 'write-off ' || write_off_id,
                      jsonb_build_array(account_id, item_id, since, reason, written_off_by) FROM dunning.write_off
               UNION ALL
               SELECT 'the end of write-off ' || write_off_id, jsonb_build_array(undone_reason, undone_by)
               FROM dunning.write_off WHERE undone_at IS NOT NULL
               UNION ALL
               SELECT 'hand-over ' || handover_id, jsonb_build_array(account_id, handed_to, since, reason, handed_by)
               FROM dunning.handover
               UNION ALL
               SELECT 'the end of hand-over ' || handover_id, jsonb_build_array(back_reason, back_by)
               FROM dunning.handover WHERE back_at IS NOT NULL
               UNION ALL
               SELECT 'call ' || call_id, jsonb_build_array(account_id, outcome, called_on, called_by) FROM dunning.call
               UNION ALL
               SELECT 'contact entry ' || entry_id,
                      jsonb_build_array(account_id, contact_id, role, no_email, language, since, reason, entered_by)
               FROM dunning.contact_entry
               UNION ALL
               SELECT 'the end of contact entry ' || entry_id, jsonb_build_array(ended_reason, ended_by)
               FROM dunning.contact_entry WHERE ended_at IS NOT NULL
               UNION ALL
               SELECT 'legal hold ' || legal_hold_id, jsonb_build_array(account_id, reason, placed_by)
               FROM dunning.legal_hold
               UNION ALL
               SELECT 'the end of legal hold ' || legal_hold_id, jsonb_build_array(lift_reason, lifted_by)
               FROM dunning.legal_hold WHERE lifted_at IS NOT NULL
               UNION ALL
               SELECT 'the pause', jsonb_build_array(reason, by_person) FROM dunning.pause WHERE reason IS NOT NULL
           )
           SELECT CASE WHEN stands.words IS NULL THEN format('%s is not there, but event %s tells of it', entry, seq)
                       WHEN said.words IS NULL THEN format('%s stands there, but the log does not know it', entry)
                       ELSE format('%s differs from what event %s says of it', entry, seq) END AS "line!"
           FROM said FULL JOIN stands USING (entry)
           WHERE said.words IS DISTINCT FROM stands.words ORDER BY seq, entry"#
    )
    .fetch_all(connection)
    .await?;
    Ok(altered)
}
