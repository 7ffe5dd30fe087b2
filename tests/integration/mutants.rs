//! Every guard of an invariant is needed: without it, the invariant's own test fails.
//!
//! The product is left as it is. A proxy changes the words of a statement on their way to the server, or a guard is
//! dropped from the test's database; then the test runs as it stands, in a process of its own. `docs/invariants.md` says
//! which guard belongs to which promise.

mod batches;
mod claims;
mod clients;
mod durability;
mod endings;
mod fences;
mod images;
mod order;
mod tables;
mod telling;
mod time;
mod verdict;

use tests::{
    database::GUARD_REMOVAL,
    mutant::{MutatedServer, Mutation},
};

use verdict::{Verdict, run};

/// The test passes with the statements as they are, and fails with each of the mutated ones.
async fn fails_with_each(test: &str, mutations: &[Mutation]) {
    for mutation in mutations {
        let server = MutatedServer::start(mutation.clone()).await;
        let (verdict, printed) = run(test, &[("DATABASE_URL", server.url())]).await;
        println!("{mutation}\n{printed}");
        assert!(server.prepared() > 0, "{test} does not use it: {mutation}");
        assert_eq!(server.sql_errors(), [""; 0], "this is no SQL: {mutation}");
        assert_eq!(
            verdict,
            Verdict::Failed,
            "{test} does not notice: {mutation}"
        );
    }
    // It is the mutation that makes it fail, not the proxy.
    let server = MutatedServer::start(mutations[0].without_edits()).await;
    let (verdict, printed) = run(test, &[("DATABASE_URL", server.url())]).await;
    assert!(server.prepared() > 0);
    assert_eq!(verdict, Verdict::Passed, "nothing was changed:\n{printed}");
}

/// The test passes on a database as the migrations make it, and fails after each of the statements.
async fn fails_after_each(test: &str, statements: &[&str]) {
    for statement in statements {
        let (verdict, printed) = run(test, &[(GUARD_REMOVAL, statement)]).await;
        println!("{statement}\n{printed}");
        assert_eq!(
            verdict,
            Verdict::Failed,
            "{test} does not notice: {statement}"
        );
    }
    let (verdict, printed) = run(test, &[(GUARD_REMOVAL, "select 1")]).await;
    assert_eq!(verdict, Verdict::Passed, "nothing was changed:\n{printed}");
}

/// `name: "the test that must fail" { "a statement's file": "words of its guard" => "what stands there instead"; … }`;
/// the file may be Rust `at` the beginning of the statement.
macro_rules! mutants {
    ($($name:ident: $test:literal {$($file:literal $(at $beginning:literal)?: $($from:literal => $to:literal),+;)+})+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            super::fails_with_each($test, &[$({
                let statement = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../jobs/src/queue/", $file));
                $(let statement = tests::mutant::statement_in(statement, $beginning);)?
                tests::mutant::Mutation::of(statement, &[$(($from, $to)),+])
            }),+]).await;
        }
    )+};
}

/// `name: "the test that must fail" { "a function": "words of its guard" => "what stands there instead"; … }`.
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
