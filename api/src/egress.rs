//! Egress: connections to URLs that callers name, for webhooks and images.
//!
//! A caller must not reach private networks through this process (SSRF). So every URL is checked before its request. A name is
//! resolved once, all of its addresses are checked, and the connection goes to those. No proxy is used, no redirect followed.

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

/// The HTTP client for URLs that callers name.
#[derive(Debug, Clone)]
pub(crate) struct Egress {
    allows_private: bool,
    client: Client,
}

/// Why a URL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlRefused {
    #[error("must be a URL of at most 2048 bytes, with its special characters percent-encoded")]
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

impl Egress {
    /// `allows_private` allows http, any port and any address: for tests.
    pub fn new(allows_private: bool, connect_timeout: Duration) -> reqwest::Result<Self> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(4)
            .user_agent(concat!("darkroom/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(CheckingResolver { allows_private }))
            .build()?;
        Ok(Self {
            allows_private,
            client,
        })
    }

    /// The client. It connects to allowed addresses only; [`Egress::check`] must have passed each URL.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Parses a URL and checks it. The client checks the addresses of its name when it connects.
    pub fn check(&self, text: &str) -> Result<Url, UrlRefused> {
        if text.len() > URL_BYTES_MAX || text.contains('\0') {
            return Err(UrlRefused::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| UrlRefused::NotAUrl)?;
        // Parsing can make a URL longer, and the parsed form is stored and checked again before each request.
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(UrlRefused::NotAUrl);
        }
        self.check_url(&url)?;
        Ok(url)
    }

    /// Checks a parsed URL, for example the target of a redirect.
    pub fn check_url(&self, url: &Url) -> Result<(), UrlRefused> {
        match url.scheme() {
            "https" => {}
            "http" if self.allows_private => {}
            _ => return Err(UrlRefused::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlRefused::Credentials);
        }
        if self.allows_private {
            return Ok(());
        }
        if !matches!(url.port_or_known_default(), Some(443 | 80)) {
            return Err(UrlRefused::Port);
        }
        // A literal address does not pass the resolver.
        let public = match url.host() {
            Some(Host::Ipv4(ip)) => is_public(ip.into()),
            Some(Host::Ipv6(ip)) => is_public(ip.into()),
            Some(Host::Domain(_)) => true,
            None => false,
        };
        public.then_some(()).ok_or(UrlRefused::Address)
    }
}

/// Whether a request failed because its address was refused.
pub(crate) fn was_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<UrlRefused>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[derive(Debug)]
struct CheckingResolver {
    allows_private: bool,
}

impl Resolve for CheckingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allows_private = self.allows_private;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            // One private address among public ones refuses the name: the client may connect to any of them.
            if !allows_private && !addresses.iter().all(|address| is_public(address.ip())) {
                return Err(UrlRefused::Address.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Egress, UrlRefused, was_refused};

    fn egress(allows_private: bool) -> Egress {
        Egress::new(allows_private, Duration::from_secs(1)).expect("TLS is there")
    }

    #[test]
    fn only_https_to_public_places_is_allowed() {
        let egress = egress(false);
        for good in [
            "https://example.com/hook?token=1",
            "https://example.com:80/",
            "https://8.8.8.8/",
            "https://[2606:4700:4700::1111]/",
            "https://xn--bcher-kva.example/",
        ] {
            assert!(egress.check(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", UrlRefused::NotAUrl),
            ("example.com/hook", UrlRefused::NotAUrl),
            ("http://example.com/", UrlRefused::Scheme),
            ("ftp://example.com/", UrlRefused::Scheme),
            ("file:///etc/passwd", UrlRefused::Scheme),
            ("gopher://example.com/", UrlRefused::Scheme),
            ("https://example.com:8443/", UrlRefused::Port),
            ("https://example.com:22/", UrlRefused::Port),
            ("https://user@example.com/", UrlRefused::Credentials),
            ("https://:secret@example.com/", UrlRefused::Credentials),
            ("https://127.0.0.1/", UrlRefused::Address),
            // Other spellings of 127.0.0.1.
            ("https://2130706433/", UrlRefused::Address),
            ("https://0x7f.1/", UrlRefused::Address),
            ("https://017700000001/", UrlRefused::Address),
            ("https://127.1/", UrlRefused::Address),
            ("https://\u{ff11}27.0.0.1/", UrlRefused::Address),
            ("https://[::1]/", UrlRefused::Address),
            ("https://[::ffff:127.0.0.1]/", UrlRefused::Address),
            ("https://169.254.169.254/latest/", UrlRefused::Address),
        ] {
            assert_eq!(egress.check(bad).err(), Some(why), "{bad}");
        }
        let long = format!("https://example.com/{}", "a".repeat(2048));
        assert_eq!(egress.check(&long).err(), Some(UrlRefused::NotAUrl));
    }

    #[test]
    fn a_url_that_is_accepted_is_accepted_again_in_its_stored_form() {
        let egress = egress(false);
        let with_path = |path: &str| egress.check(&format!("https://example.com/{path}"));
        // Each character becomes six: `%C3%A4`.
        assert_eq!(with_path(&"ä".repeat(400)).err(), Some(UrlRefused::NotAUrl));
        for path in ["ä".repeat(300), "a b\"<>{}|^`".into(), "%zz?q=ü#ä".into()] {
            let stored = with_path(&path).expect("short enough");
            assert_eq!(egress.check(stored.as_str()), Ok(stored.clone()), "{path}");
        }
    }

    #[test]
    fn tests_may_go_anywhere_by_http() {
        let egress = egress(true);
        for good in ["http://127.0.0.1:8080/hook", "https://localhost:1/"] {
            assert!(egress.check(good).is_ok(), "{good}");
        }
        assert_eq!(egress.check("ftp://a/").err(), Some(UrlRefused::Scheme));
    }

    #[tokio::test]
    async fn a_name_that_stands_for_a_private_address_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let url = format!("http://localhost:{port}/");
        let refused = egress(false).client().get(&url).send().await;
        assert!(was_refused(&refused.expect_err("it is private")));
        tokio::select! {
            // Without the rule the client connects.
            _ = egress(true).client().get(&url).timeout(Duration::from_secs(5)).send() => panic!("nobody answers"),
            accepted = listener.accept() => assert!(accepted.is_ok()),
        }
    }
}
