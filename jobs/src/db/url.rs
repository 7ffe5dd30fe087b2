//! What the driver does not understand of a URL, or would leave out without an error.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::Secret;

/// The options that the driver knows. It leaves out all others.
const KNOWN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Options of libpq whose effect the programs have anyway: they close connections to a server that takes no writes, and set
/// time-outs and keepalives of their own.
const HAD_ANYWAY: [&str; 10] = [
    "target_session_attrs",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "client_encoding",
    "fallback_application_name",
    "load_balance_hosts",
];

/// Values of `target_session_attrs` that name a server for writes.
const FOR_WRITES: [&str; 3] = ["any", "read-write", "primary"];

/// Reads a URL. `name` is its variable, for the error.
///
/// # Errors
/// The URL cannot be read, names several hosts, or has options that would have no effect.
pub(super) fn parse(url: &Secret, name: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let url = url.expose();
    if names_several_hosts(url) {
        return refuse(format!(
            "{name} names several hosts: give it one host, a name or a proxy that leads to the primary; after a failover the \
             programs connect again by themselves"
        ));
    }
    let unknown: Vec<_> = options(url)
        .filter(|(key, value)| !has_effect(key, value))
        .map(|(key, _)| key)
        .collect();
    if !unknown.is_empty() {
        return refuse(format!(
            "{name} has options that this program does not know: {}; it knows {}",
            unknown.join(", "),
            KNOWN.join(", ")
        ));
    }
    let options = PgConnectOptions::from_str(url)?;
    // The driver would look up an IPv6 address with its brackets, as if it were a name.
    let host = options.get_host();
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address = address.map(str::to_owned);
    Ok(match address {
        Some(address) => options.host(&address),
        None => options,
    })
}

fn refuse<T>(why: String) -> Result<T, sqlx::Error> {
    Err(sqlx::Error::Configuration(why.into()))
}

fn has_effect(key: &str, value: &str) -> bool {
    match key {
        "target_session_attrs" => FOR_WRITES.contains(&value),
        _ => {
            KNOWN.contains(&key)
                || HAD_ANYWAY.contains(&key)
                || key.starts_with("options[")
                || key.to_ascii_lowercase().starts_with("options%5b")
        }
    }
}

/// `postgres://user:password@one,two/database`, or the option `host=one,two`.
fn names_several_hosts(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#']).next();
    let hosts = authority.unwrap_or_default().rsplit('@').next();
    hosts.is_some_and(|hosts| hosts.contains(','))
        || options(url).any(|(key, value)| {
            let is_host = ["host", "hostaddr", "port"].contains(&key);
            is_host && (value.contains(',') || value.to_ascii_lowercase().contains("%2c"))
        })
}

/// The options of the URL, as they are written.
fn options(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let options = query.split('&').filter(|option| !option.is_empty());
    options.map(|option| option.split_once('=').unwrap_or((option, "")))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::Secret;

    fn refusal(url: &str) -> String {
        let refused = parse(&Secret::new(url), "DATABASE_URL").expect_err(url);
        refused.to_string()
    }

    #[test]
    fn an_ipv6_address_is_a_host() {
        for url in [
            "postgres://one:two@[::1]:6543/darkroom",
            "postgres://one@[::1]/darkroom?port=6543",
        ] {
            let options = parse(&Secret::new(url), "DATABASE_URL").expect(url);
            assert_eq!((options.get_host(), options.get_port()), ("::1", 6543));
        }
    }

    #[test]
    fn several_hosts_are_refused_by_name() {
        for url in [
            "postgres://one:secret@first:5432,second:5433/darkroom",
            "postgres://one:secret@first,second/darkroom",
            "postgres:///darkroom?host=first,second",
            "postgres:///darkroom?host=first%2Csecond",
        ] {
            let refused = refusal(url);
            assert!(
                refused.contains("DATABASE_URL names several hosts"),
                "{refused}"
            );
            assert!(!refused.contains("secret"), "{refused}");
        }
        let password = Secret::new("postgres://one:a,b@first/darkroom");
        parse(&password, "DATABASE_URL").expect("the comma stands in the password");
    }

    #[test]
    fn options_without_effect_are_refused_all_at_once() {
        let refused =
            refusal("postgres://first/darkroom?sslmode=require&channel_binding=require&service=x");
        assert!(refused.contains("channel_binding, service;"), "{refused}");
        let refused = refusal("postgres://first/darkroom?target_session_attrs=standby");
        assert!(refused.contains("target_session_attrs"), "{refused}");
    }

    #[test]
    fn options_whose_effect_is_there_anyway_are_taken() {
        let url = "postgres://first/darkroom?target_session_attrs=read-write&connect_timeout=5&options[jit]=off";
        parse(&Secret::new(url), "DATABASE_URL").expect("nothing is lost");
    }
}
