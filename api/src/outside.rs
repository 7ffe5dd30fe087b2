//! What lies outside: addresses that callers name and this process then connects to. The rules for all of them.
//!
//! A caller must not reach through us what it cannot reach itself. So the URL is looked at before each request, a name is
//! resolved once, every address that it stands for is looked at, and those are the ones that are connected to. No proxy is
//! used and no redirect followed.

mod addresses;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use tokio::net::lookup_host;
use url::Host;

use self::addresses::is_public;

const URL_BYTES_MAX: usize = 2048;

/// Who may be connected to, and how.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    allows_private: bool,
    client: Client,
}

/// Why a URL is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("must be a URL of at most 2048 bytes")]
    NotAUrl,
    #[error("must begin with https://")]
    Scheme,
    #[error("must use port 443 or 80")]
    Port,
    #[error("must not carry a user name or password")]
    Credentials,
    #[error("must not lead to a private, local or reserved address")]
    Address,
}

impl Outside {
    /// `allows_private`: http, any port, any address; for tests.
    pub fn new(allows_private: bool, connect_timeout: Duration) -> reqwest::Result<Self> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(4)
            .user_agent(concat!("darkroom/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Resolver { allows_private }))
            .build()?;
        Ok(Self {
            allows_private,
            client,
        })
    }

    /// Connects only to allowed addresses, by the names of URLs that [`Outside::check`] has passed.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The URL, if it may be connected to as far as it tells by itself; what its name stands for is looked at on the way.
    pub fn check(&self, text: &str) -> Result<Url, Refused> {
        if text.len() > URL_BYTES_MAX || text.contains('\0') {
            return Err(Refused::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| Refused::NotAUrl)?;
        self.check_url(&url)?;
        Ok(url)
    }

    /// The same of a URL that was parsed already: where a redirect leads.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
        match url.scheme() {
            "https" => {}
            "http" if self.allows_private => {}
            _ => return Err(Refused::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        if self.allows_private {
            return Ok(());
        }
        if !matches!(url.port_or_known_default(), Some(443 | 80)) {
            return Err(Refused::Port);
        }
        // A literal address is resolved by nobody.
        let public = match url.host() {
            Some(Host::Ipv4(ip)) => is_public(ip.into()),
            Some(Host::Ipv6(ip)) => is_public(ip.into()),
            Some(Host::Domain(_)) => true,
            None => false,
        };
        public.then_some(()).ok_or(Refused::Address)
    }
}

/// Whether a request failed because of these rules.
pub(crate) fn was_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Refused>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[derive(Debug)]
struct Resolver {
    allows_private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allows_private = self.allows_private;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            // All of them: a name that stands for a private address too is no better than one that does for it alone.
            if !allows_private && !addresses.iter().all(|address| is_public(address.ip())) {
                return Err(Refused::Address.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Outside, Refused, was_refused};

    fn outside(allows_private: bool) -> Outside {
        Outside::new(allows_private, Duration::from_secs(1)).expect("TLS is there")
    }

    #[test]
    fn only_https_to_public_places_is_allowed() {
        let outside = outside(false);
        for good in [
            "https://example.com/hook?token=1",
            "https://example.com:80/",
            "https://8.8.8.8/",
            "https://[2606:4700:4700::1111]/",
            "https://xn--bcher-kva.example/",
        ] {
            assert!(outside.check(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", Refused::NotAUrl),
            ("example.com/hook", Refused::NotAUrl),
            ("http://example.com/", Refused::Scheme),
            ("ftp://example.com/", Refused::Scheme),
            ("file:///etc/passwd", Refused::Scheme),
            ("gopher://example.com/", Refused::Scheme),
            ("https://example.com:8443/", Refused::Port),
            ("https://example.com:22/", Refused::Port),
            ("https://user@example.com/", Refused::Credentials),
            ("https://:secret@example.com/", Refused::Credentials),
            ("https://127.0.0.1/", Refused::Address),
            // The same address, as URLs may spell it.
            ("https://2130706433/", Refused::Address),
            ("https://0x7f.1/", Refused::Address),
            ("https://017700000001/", Refused::Address),
            ("https://127.1/", Refused::Address),
            ("https://\u{ff11}27.0.0.1/", Refused::Address),
            ("https://[::1]/", Refused::Address),
            ("https://[::ffff:127.0.0.1]/", Refused::Address),
            ("https://169.254.169.254/latest/", Refused::Address),
        ] {
            assert_eq!(outside.check(bad).err(), Some(why), "{bad}");
        }
        let long = format!("https://example.com/{}", "a".repeat(2048));
        assert_eq!(outside.check(&long).err(), Some(Refused::NotAUrl));
    }

    #[test]
    fn tests_may_go_anywhere_by_http() {
        let outside = outside(true);
        for good in ["http://127.0.0.1:8080/hook", "https://localhost:1/"] {
            assert!(outside.check(good).is_ok(), "{good}");
        }
        assert_eq!(outside.check("ftp://a/").err(), Some(Refused::Scheme));
    }

    #[tokio::test]
    async fn a_name_that_stands_for_a_private_address_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let url = format!("http://localhost:{port}/");
        let refused = outside(false).client().get(&url).send().await;
        assert!(was_refused(&refused.expect_err("it is private")));
        tokio::select! {
            // Without the rule it would connect.
            _ = outside(true).client().get(&url).timeout(Duration::from_secs(5)).send() => panic!("nobody answers"),
            accepted = listener.accept() => assert!(accepted.is_ok()),
        }
    }
}
