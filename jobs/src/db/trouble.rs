use std::error::Error;

use sqlx::{error::DatabaseError, postgres::PgDatabaseError};

/// Why Postgres does not serve this process for the moment. All of these pass: a request may be tried again, and no attempt of
/// a job is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The server is a standby, or takes no writes.
    ReadOnly,
    /// The connection is gone, or the server starts or stops.
    Away,
    /// The server refuses the login.
    Login,
    /// There is no such database.
    NoDatabase,
    /// A migration changed a table under a prepared statement.
    StalePlan,
    /// No notification fits into the queue of NOTIFY.
    NotifyQueueFull,
    /// The server assigns no transaction ids any more.
    TransactionIds,
    /// All connections of the server are taken.
    Connections,
    /// The disk of the server is full.
    Disk,
    /// The server lacks memory or another resource.
    Resources,
    /// A statement took too long, waited too long for a lock, or was canceled.
    TimeOut,
    /// The server chose this transaction as the victim of a conflict.
    Conflict,
}

impl Trouble {
    /// The trouble behind an error, if the error or one of its sources is an answer of Postgres that passes.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(sqlx::Error::Database(database)) = error.downcast_ref() {
                return Self::of_database_error(database.as_ref());
            }
            next = error.source();
        }
        None
    }

    pub(super) fn of_database_error(error: &dyn DatabaseError) -> Option<Self> {
        let code = error.code()?;
        let routine = error
            .try_downcast_ref::<PgDatabaseError>()
            .and_then(PgDatabaseError::routine);
        Self::of_code(&code, routine.unwrap_or_default())
    }

    /// `routine` is the function of Postgres that raised the error. Messages are translated, and names of functions are not.
    fn of_code(code: &str, routine: &str) -> Option<Self> {
        let trouble = match code {
            "25006" => Self::ReadOnly,
            "0A000" if routine == "RevalidateCachedQuery" => Self::StalePlan,
            // The code also means that a value is too large. That is no trouble of the server.
            "54000" if routine.contains("Notify") || routine.starts_with("asyncQueue") => {
                Self::NotifyQueueFull
            }
            "54000"
                if routine.starts_with("GetNewTransactionId")
                    || routine.starts_with("GetNewMultiXactId") =>
            {
                Self::TransactionIds
            }
            "53100" => Self::Disk,
            "53300" => Self::Connections,
            "55P03" | "57014" => Self::TimeOut,
            "3D000" => Self::NoDatabase,
            _ => match code.get(..2)? {
                "08" | "57" => Self::Away,
                "28" => Self::Login,
                "40" => Self::Conflict,
                "53" | "58" => Self::Resources,
                _ => return None,
            },
        };
        Some(trouble)
    }

    /// Whether the connection that answered so must not be used again: the next connection may lead to another server, and has
    /// no plan yet.
    pub(super) fn spoils_connection(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Away | Self::StalePlan)
    }

    /// What an operator should do, in one line.
    pub fn advice(self) -> &'static str {
        match self {
            Self::ReadOnly => {
                "Postgres takes no writes: DATABASE_URL leads to a standby, or default_transaction_read_only is on; let it \
                 lead to the primary (after a failover the programs follow by themselves)"
            }
            Self::Away => {
                "Postgres is away, starts or stops; the programs connect again by themselves"
            }
            Self::Login => {
                "Postgres refuses the login: check user and password of DATABASE_URL, DATABASE_PASSWORD_FILE and pg_hba.conf"
            }
            Self::NoDatabase => "Postgres has no database of this name: check DATABASE_URL",
            Self::StalePlan => {
                "a migration changed a table under a prepared statement; trying again is enough"
            }
            Self::NotifyQueueFull => {
                "the queue of NOTIFY is full: end the sessions that listen and stay in a transaction (\"notification queue\" \
                 in ops.health)"
            }
            Self::TransactionIds => {
                "Postgres has no transaction ids left: vacuum the database of \"transaction id age\" in ops.health, and end old \
                 transactions, prepared transactions and replication slots"
            }
            Self::Connections => {
                "Postgres has no connection left: raise max_connections, lower --db-connections-max, or use a pooler \
                 (docs/sql.md)"
            }
            Self::Disk => {
                "the disk of Postgres is full: free space, and look at \"WAL held by slots\" in ops.health"
            }
            Self::Resources => "Postgres lacks memory or another resource: its log says which",
            Self::TimeOut => {
                "a statement took too long or was canceled: select * from ops.health says why Postgres is slow"
            }
            Self::Conflict => "two transactions were in conflict; trying again is enough",
        }
    }
}

/// What an operator should do about this error, if it is an answer of Postgres that passes.
pub fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    Trouble::of(error).map(Trouble::advice)
}

/// Whether the prepared statement is older than a migration. Postgres did nothing, so the statement may be sent again at once.
pub fn is_stale_plan(error: &(dyn Error + 'static)) -> bool {
    Trouble::of(error) == Some(Trouble::StalePlan)
}

#[cfg(test)]
mod tests {
    use super::Trouble;

    #[test]
    fn what_passes_is_told_from_a_refused_value() {
        for (code, routine, expected) in [
            ("25006", "PreventCommandIfReadOnly", Trouble::ReadOnly),
            ("57P01", "ProcessInterrupts", Trouble::Away),
            ("08006", "", Trouble::Away),
            ("28P01", "auth_failed", Trouble::Login),
            ("3D000", "InitPostgres", Trouble::NoDatabase),
            ("0A000", "RevalidateCachedQuery", Trouble::StalePlan),
            ("54000", "PreCommit_Notify", Trouble::NotifyQueueFull),
            ("54000", "GetNewTransactionId", Trouble::TransactionIds),
            ("53300", "InitProcess", Trouble::Connections),
            ("53100", "mdextend", Trouble::Disk),
            ("53200", "AllocSetAlloc", Trouble::Resources),
            ("57014", "ProcessInterrupts", Trouble::TimeOut),
            ("40P01", "DeadLockReport", Trouble::Conflict),
        ] {
            assert_eq!(
                Trouble::of_code(code, routine),
                Some(expected),
                "{code} {routine}"
            );
        }
        for (code, routine) in [
            ("54000", "RelationGetBufferForTuple"),
            ("54000", "index_form_tuple"),
            ("0A000", "transformFeature"),
            ("23505", "_bt_check_unique"),
            ("22P05", "pg_any_to_server"),
            ("42P01", "parserOpenTable"),
            ("42501", "aclcheck_error"),
            ("", ""),
        ] {
            assert_eq!(Trouble::of_code(code, routine), None, "{code} {routine}");
        }
    }

    #[test]
    fn a_connection_is_kept_unless_another_one_may_do_better() {
        for kept in [
            Trouble::NotifyQueueFull,
            Trouble::TransactionIds,
            Trouble::TimeOut,
            Trouble::Conflict,
            Trouble::Disk,
            // Connections that are open work on after the password has changed.
            Trouble::Login,
            Trouble::NoDatabase,
        ] {
            assert!(!kept.spoils_connection(), "{kept:?}");
        }
        for closed in [Trouble::ReadOnly, Trouble::Away, Trouble::StalePlan] {
            assert!(closed.spoils_connection(), "{closed:?}");
        }
    }
}
