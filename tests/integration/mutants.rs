//! Every guard of an invariant is needed: without the guard, the invariant's own test fails.
//!
//! The product is not changed. A proxy replaces words of a statement on the way to the server, or a statement drops a
//! guard from the test's database. Then the unchanged test runs in its own process. `docs/invariants.md` lists the guard
//! of each promise.

mod batches;
mod claims;
mod clients;
mod durability;
mod endings;
mod events_and_webhooks;
mod fences;
mod images;
mod order;
mod tables;
mod time;
mod trials;
mod verdict;

use tests::{
    database::GUARD_REMOVAL,
    mutant::{MutatedServer, Mutation},
};

use verdict::{Verdict, run};

/// Requires that `test` passes with the original statements and fails with each mutated statement.
async fn fails_with_each(test: &str, mutations: &[Mutation]) {
    for mutation in mutations {
        let server = MutatedServer::start(mutation.clone()).await;
        let (verdict, output) = run(test, &[("DATABASE_URL", server.url())]).await;
        println!("{mutation}\n{output}");
        assert!(
            server.prepared() > 0,
            "{test} does not run the statement: {mutation}"
        );
        assert_eq!(
            server.sql_errors(),
            [""; 0],
            "the mutated statement is not valid SQL: {mutation}"
        );
        assert_eq!(verdict, Verdict::Failed, "{test} must fail with {mutation}");
    }
    // The mutation must cause the failure, not the proxy.
    let server = MutatedServer::start(mutations[0].without_edits()).await;
    let (verdict, output) = run(test, &[("DATABASE_URL", server.url())]).await;
    assert!(server.prepared() > 0);
    assert_eq!(
        verdict,
        Verdict::Passed,
        "{test} must pass without a mutation:\n{output}"
    );
}

/// Requires that `test` passes on a migrated database and fails after each of the `statements`.
async fn fails_after_each(test: &str, statements: &[&str]) {
    for statement in statements {
        let (verdict, output) = run(test, &[(GUARD_REMOVAL, statement)]).await;
        println!("{statement}\n{output}");
        assert_eq!(
            verdict,
            Verdict::Failed,
            "{test} must fail after {statement}"
        );
    }
    let (verdict, output) = run(test, &[(GUARD_REMOVAL, "select 1")]).await;
    assert_eq!(
        verdict,
        Verdict::Passed,
        "{test} must pass without a mutation:\n{output}"
    );
}

/// `name: "the test that must fail" { "the statement's file": "words of the guard" => "their replacement"; … }`.
/// In a Rust file, `at` gives the first words of the statement.
macro_rules! mutants {
    ($($name:ident: $test:literal {$($file:literal $(at $beginning:literal)?: $($from:literal => $to:literal),+;)+})+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            super::fails_with_each($test, &[$({
                let statement = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../jobs/src/queue/", $file));
                $(let statement = &tests::mutant::statement_in(statement, $beginning);)?
                tests::mutant::Mutation::of(statement, &[$(($from, $to)),+])
            }),+]).await;
        }
    )+};
}

/// `name: "the test that must fail" { "an SQL function": "words of the guard" => "their replacement"; … }`.
macro_rules! functions {
    ($($name:ident: $test:literal {$($function:literal: $from:literal => $to:literal;)+})+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            super::fails_after_each($test, &[$(&tests::mutant::in_function($function, $from, $to)),+]).await;
        }
    )+};
}

/// `name: "the test that must fail" { "a statement that drops a guard"; … }`.
macro_rules! dropped {
    ($($name:ident: $test:literal {$($statement:literal;)+})+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            super::fails_after_each($test, &[$($statement),+]).await;
        }
    )+};
}

use {dropped, functions, mutants};
