//! Databases that are read: a table of each kind of server changes, and what comes of it at a target is counted and compared.
//! SQLite everywhere, PostgreSQL and MariaDB where they run.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use gatehouse_store::State;

use crate::harness::{GATEWAY, PATIENCE, Peer, Place, until};

#[path = "capture/ahead.rs"]
mod ahead;
#[path = "capture/backfill.rs"]
mod backfill;
#[path = "capture/batches.rs"]
mod batches;
#[path = "capture/charsets.rs"]
mod charsets;
#[path = "capture/database.rs"]
mod database;
#[path = "capture/guards.rs"]
mod guards;
#[path = "capture/hostile.rs"]
mod hostile;
#[path = "capture/live.rs"]
mod live;
#[path = "capture/log.rs"]
mod log;
#[path = "capture/merge.rs"]
mod merge;
#[cfg(feature = "odbc")]
#[path = "capture/odbc.rs"]
mod odbc;
#[path = "capture/steady.rs"]
mod steady;
#[path = "capture/ways.rs"]
mod ways;
#[path = "capture/workload.rs"]
mod workload;
#[path = "capture/writes.rs"]
mod writes;

use ahead::a_first_reading_goes_on_after_kills_between_its_pieces;
use backfill::{
    a_backfill_beside_a_log_goes_on_after_kills, a_backfill_goes_on_after_kills_and_beside_changes,
    a_backfill_is_held_let_go_and_ended, one_gateway_of_two_reads_it, rows_are_read_once_more_for_one_route,
    what_cannot_be_read_once_more_is_told, what_is_read_once_more_is_not_older_than_the_log,
};
use batches::{
    a_batch_that_comes_again_loses_and_doubles_nothing, a_field_that_no_column_has_is_its_own_deliverys,
    a_field_that_no_column_has_is_its_own_rows, deliveries_that_wait_together_have_each_their_own_outcome,
    good_rows_stay_and_each_bad_one_is_a_letter,
};
use charsets::{
    a_charset_that_cannot_be_is_told, a_log_reads_bytes_that_lie, a_watermark_reads_bytes_that_lie,
    bytes_are_written_as_declared, bytes_that_nobody_declared_are_letters, triggers_read_bytes_that_lie,
};
use database::Database;
use guards::{
    a_lock_or_a_statement_that_lasts_is_given_up, a_reader_without_rights_asks_and_writes_nothing,
    tls_is_wanted_and_the_server_proves_itself,
};
use hostile::{
    payloads_in_names_are_refused_or_quoted, payloads_in_values_are_only_texts, what_a_column_would_change_is_refused,
};
use live::what_does_not_fit_a_table_is_told_with_its_place;
use merge::sources_are_merged_by_the_rules_through_kills;

/// Each check on all three.
macro_rules! on_all {
    ($($check:ident),* $(,)?) => {
        mod sqlite { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() { super::one(super::$check, "sqlite").await; } )* }
        mod postgres { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() { super::one(super::$check, "postgres").await; } )* }
        mod mariadb { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() { super::one(super::$check, "mysql").await; } )* }
    };
}

use ways::{
    a_database_is_connected_from_its_catalogue, a_row_that_no_route_takes_is_a_letter_and_the_next_goes_on,
    a_watermark_sees_what_is_committed_late, an_outbox_is_emptied_in_its_order, changes_that_waited_keep_their_order,
    every_type_arrives_as_it_is, rows_of_an_outbox_are_marked, tables_and_columns_that_come_later_are_taken_up,
    triggers_tell_every_change_and_its_before, what_is_not_there_is_told,
};
use workload::{a_watermark_follows_a_random_workload, triggers_follow_a_random_workload};
use writes::{
    a_changed_order_has_its_new_lines_and_no_others, a_table_is_copied_with_its_deletes,
    statements_ask_and_call_procedures,
};

on_all!(
    every_type_arrives_as_it_is,
    a_watermark_sees_what_is_committed_late,
    an_outbox_is_emptied_in_its_order,
    changes_that_waited_keep_their_order,
    rows_of_an_outbox_are_marked,
    tables_and_columns_that_come_later_are_taken_up,
    triggers_tell_every_change_and_its_before,
    a_row_that_no_route_takes_is_a_letter_and_the_next_goes_on,
    what_is_not_there_is_told,
    a_table_is_copied_with_its_deletes,
    a_database_is_connected_from_its_catalogue,
    statements_ask_and_call_procedures,
    a_changed_order_has_its_new_lines_and_no_others,
    what_does_not_fit_a_table_is_told_with_its_place,
    good_rows_stay_and_each_bad_one_is_a_letter,
    a_batch_that_comes_again_loses_and_doubles_nothing,
    deliveries_that_wait_together_have_each_their_own_outcome,
    a_field_that_no_column_has_is_its_own_rows,
    a_field_that_no_column_has_is_its_own_deliverys,
    tls_is_wanted_and_the_server_proves_itself,
    a_lock_or_a_statement_that_lasts_is_given_up,
    a_reader_without_rights_asks_and_writes_nothing,
    payloads_in_values_are_only_texts,
    payloads_in_names_are_refused_or_quoted,
    what_a_column_would_change_is_refused,
    triggers_follow_a_random_workload,
    a_watermark_follows_a_random_workload,
    a_first_reading_goes_on_after_kills_between_its_pieces,
    rows_are_read_once_more_for_one_route,
    a_backfill_is_held_let_go_and_ended,
    a_backfill_goes_on_after_kills_and_beside_changes,
    one_gateway_of_two_reads_it,
    what_cannot_be_read_once_more_is_told,
    sources_are_merged_by_the_rules_through_kills,
);

/// Columns that hold other bytes than the database takes them for.
macro_rules! on_liars {
    ($module:ident, $kind:literal: $($check:ident),* $(,)?) => {
        mod $module { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() {
            if let Some(database) = super::Database::without_charset($kind).await {
                super::$check(&database).await;
                database.end().await;
            }
        } )* }
    };
}

on_liars!(
    sqlite_charset, "sqlite":
    a_watermark_reads_bytes_that_lie,
    triggers_read_bytes_that_lie,
    bytes_that_nobody_declared_are_letters,
    bytes_are_written_as_declared,
    a_charset_that_cannot_be_is_told,
);
on_liars!(
    postgres_charset, "postgres":
    a_watermark_reads_bytes_that_lie,
    triggers_read_bytes_that_lie,
    bytes_are_written_as_declared,
    a_charset_that_cannot_be_is_told,
);
on_liars!(
    mariadb_charset, "mysql":
    a_watermark_reads_bytes_that_lie,
    triggers_read_bytes_that_lie,
    a_log_reads_bytes_that_lie,
    bytes_are_written_as_declared,
    a_charset_that_cannot_be_is_told,
);

/// What is of the log, where there is one.
macro_rules! on_logs {
    ($module:ident, $kind:literal: $($check:ident),* $(,)?) => {
        mod $module { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() { super::one(super::$check, $kind).await; } )* }
    };
}

use log::{
    a_large_transaction_is_read_in_pieces, a_log_tells_every_change_and_its_before,
    a_log_without_the_row_before_says_so_by_leaving_it_out, a_lost_place_is_told_and_read_anew_where_that_is_declared,
    hours_are_kept, tables_of_a_log_that_come_later_are_taken_up,
};
use steady::{a_value_of_a_log_that_cannot_be_read_is_a_letter, much_that_is_not_read_is_passed_over_in_steps};
use ways::every_type_is_the_same_in_the_log;
use workload::{a_log_follows_a_random_workload, a_log_is_followed_while_its_server_is_killed};

on_logs!(
    postgres_log, "postgres":
    every_type_is_the_same_in_the_log,
    a_log_tells_every_change_and_its_before,
    a_log_without_the_row_before_says_so_by_leaving_it_out,
    a_lost_place_is_told_and_read_anew_where_that_is_declared,
    tables_of_a_log_that_come_later_are_taken_up,
    a_large_transaction_is_read_in_pieces,
    hours_are_kept,
    a_log_follows_a_random_workload,
    a_backfill_beside_a_log_goes_on_after_kills,
);

on_logs!(
    mariadb_log, "mysql":
    every_type_is_the_same_in_the_log,
    a_log_tells_every_change_and_its_before,
    tables_of_a_log_that_come_later_are_taken_up,
    a_large_transaction_is_read_in_pieces,
    hours_are_kept,
    a_log_follows_a_random_workload,
    a_backfill_beside_a_log_goes_on_after_kills,
    what_is_read_once_more_is_not_older_than_the_log,
    a_value_of_a_log_that_cannot_be_read_is_a_letter,
    much_that_is_not_read_is_passed_over_in_steps,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_that_is_killed_is_followed() {
    a_log_is_followed_while_its_server_is_killed("mysql").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_killed_is_followed() {
    a_log_is_followed_while_its_server_is_killed("postgres").await;
}

/// Through unixODBC, with the drivers for SQLite and PostgreSQL.
#[cfg(feature = "odbc")]
macro_rules! by_odbc {
    ($module:ident, $kind:literal: $($check:ident),* $(,)?) => {
        mod $module { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() { super::one_by_odbc(super::$check, $kind).await; } )* }
    };
}

#[cfg(feature = "odbc")]
use odbc::{
    a_database_is_connected_by_odbc, a_table_is_read_by_odbc, a_text_in_another_charset_is_refused,
    every_way_of_writing_goes_through_odbc, orders_go_through_odbc, what_is_late_by_less_than_the_overlap_is_read,
    what_odbc_cannot_is_told,
};

// What is in a process with the driver's SQLite keeps its hands off the file: theirs are two, and their locks are one.
#[cfg(feature = "odbc")]
by_odbc!(
    odbc_sqlite, "sqlite":
    orders_go_through_odbc,
    every_way_of_writing_goes_through_odbc,
    a_text_in_another_charset_is_refused,
    a_database_is_connected_by_odbc,
    a_table_is_read_by_odbc,
    what_odbc_cannot_is_told,
    what_is_not_there_is_told,
    a_watermark_follows_a_random_workload,
    triggers_follow_a_random_workload,
    a_watermark_reads_bytes_that_lie,
    bytes_that_nobody_declared_are_letters,
    bytes_are_written_as_declared,
    a_charset_that_cannot_be_is_told,
);

#[cfg(feature = "odbc")]
by_odbc!(
    odbc_postgres, "postgres":
    orders_go_through_odbc,
    every_way_of_writing_goes_through_odbc,
    a_database_is_connected_by_odbc,
    a_table_is_read_by_odbc,
    what_odbc_cannot_is_told,
    what_is_not_there_is_told,
    what_is_late_by_less_than_the_overlap_is_read,
    an_outbox_is_emptied_in_its_order,
    rows_of_an_outbox_are_marked,
    changes_that_waited_keep_their_order,
    triggers_tell_every_change_and_its_before,
    a_row_that_no_route_takes_is_a_letter_and_the_next_goes_on,
    rows_are_read_once_more_for_one_route,
    a_watermark_follows_a_random_workload,
    triggers_follow_a_random_workload,
);

#[cfg(feature = "odbc")]
async fn one_by_odbc(check: impl AsyncFn(&Database), kind: &'static str) {
    if let Some(database) = Database::by_odbc(kind).await {
        check(&database).await;
        database.end().await;
    }
}

async fn one(check: impl AsyncFn(&Database), kind: &'static str) {
    if let Some(database) = Database::new(kind).await {
        check(&database).await;
        database.end().await;
    }
}

/// A type that takes any object, and one route from `src/rows` to the peer.
fn site(database: &Database, capture: &str, mapping: &str, peer: &Peer) -> Place {
    let map = if mapping.is_empty() { "" } else { "map: change, " };
    let routes = format!(
        "version: 1\nroutes:\n  - {{ route: rows, from: src/rows, {map}type: row, to: [{{ target: sink/put }}] }}\n  - {{ route: orders, from: shop/orders, type: order.paid, to: [{{ target: sink/put }}] }}\n"
    );
    let place = Place::new(&[
        ("gatehouse.yaml", GATEWAY),
        ("types/row.schema.json", r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}"#),
        ("orders.yaml", &routes),
        ("systems/sink.yaml", &peer.system("sink", "")),
        ("database.secret", "gatehouse"),
    ]);
    if !mapping.is_empty() {
        place.write("mappings/change.yaml", &format!("version: 1\nmapping: change\nto: row\nrows:\n{mapping}"));
    }
    place.write("systems/src.yaml", &database.system(capture));
    place
}

/// Runs a command line of the product; says whether it went well.
async fn gatehouse(place: &Place, words: &[&str]) -> bool {
    let mut line = vec!["gatehouse".to_owned()];
    line.extend(words.iter().map(|word| (*word).to_owned()));
    line.extend(["--site".to_owned(), place.root().to_string_lossy().into_owned()]);
    let run = tokio::task::spawn_blocking(move || gatehouse::cli::run_line(line.into_iter().map(Into::into)));
    let code = tokio::time::timeout(PATIENCE, run).await.expect("in time").expect("no panic");
    format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
}
