//! Wrong API keys: which were refused lately, and how many each address may send. A wrong key must not cost a query each time.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{Sha256Digest, keys::RefusedKey};
use moka::{policy::EvictionPolicy, sync::Cache};

use super::rates::TokenBucket;
use crate::config::WrongKeyConfig;

/// How long a refused key is refused without a query. So an expired key that gets a later expiry works again after this time.
const REFUSED_FOR: Duration = Duration::from_secs(5);
const KEYS_MAX: u64 = 10_000;
const ADDRESSES_MAX: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct WrongKeys {
    config: WrongKeyConfig,
    /// Why keys were refused lately, by their digests.
    refused: Cache<Sha256Digest, RefusedKey>,
    /// The wrong keys that each address may still send.
    addresses: Cache<IpAddr, Arc<TokenBucket>>,
}

impl WrongKeys {
    pub fn new(config: WrongKeyConfig) -> Self {
        Self {
            config,
            refused: Cache::builder()
                .max_capacity(KEYS_MAX)
                .time_to_live(REFUSED_FOR)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            addresses: Cache::builder()
                .max_capacity(ADDRESSES_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
        }
    }

    /// Seconds until this address may send another unknown key; `None` if it may do so now.
    pub fn wait_seconds(&self, address: Option<IpAddr>) -> Option<u32> {
        let bucket = self.addresses.get(&network(address?))?;
        bucket.wait_seconds(Instant::now())
    }

    /// Why the key was refused lately; `None` if it was not.
    pub fn refusal(&self, key: &Sha256Digest) -> Option<RefusedKey> {
        self.refused.get(key)
    }

    /// Notes a wrong key from an address.
    pub fn note(&self, key: Sha256Digest, refused: RefusedKey, address: Option<IpAddr>) {
        self.refused.insert(key, refused);
        let Some(address) = address else {
            return;
        };
        let bucket = self.addresses.get_with(network(address), || {
            let (rate, burst) = (
                self.config.wrong_keys_per_second,
                self.config.wrong_keys_burst,
            );
            Arc::new(TokenBucket::new(rate, burst))
        });
        bucket.take(Instant::now());
    }
}

/// What counts as one address. One client has a whole IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use jobs::{Sha256Digest, keys::RefusedKey};

    use super::{WrongKeys, network};
    use crate::config::WrongKeyConfig;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn wrong_keys(wrong_keys_per_second: f64) -> WrongKeys {
        WrongKeys::new(WrongKeyConfig {
            wrong_keys_per_second,
            wrong_keys_burst: 3,
        })
    }

    #[test]
    fn an_address_with_too_many_wrong_keys_waits_and_other_addresses_do_not() {
        let keys = wrong_keys(0.01);
        let (noisy, quiet) = (Some(address("192.0.2.1")), Some(address("192.0.2.2")));
        for key in ["a", "b", "c"] {
            assert_eq!(keys.wait_seconds(noisy), None, "{key}");
            keys.note(Sha256Digest::of(key.as_bytes()), RefusedKey::UNKNOWN, noisy);
        }
        assert_eq!(keys.wait_seconds(noisy), Some(100));
        assert_eq!(keys.wait_seconds(quiet), None);
        let refusal = |key: &[u8]| keys.refusal(&Sha256Digest::of(key));
        assert_eq!(refusal(b"a"), Some(RefusedKey::UNKNOWN));
        assert_eq!(refusal(b"d"), None);
    }

    #[test]
    fn without_a_rate_no_address_waits() {
        let keys = wrong_keys(0.0);
        let noisy = Some(address("192.0.2.1"));
        for _ in 0..100 {
            keys.note(Sha256Digest::of(b"a"), RefusedKey::UNKNOWN, noisy);
        }
        assert_eq!(keys.wait_seconds(noisy), None);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        assert_eq!(
            network(address("2001:db8:1:2:aaaa::1")),
            network(address("2001:db8:1:2:bbbb::2"))
        );
        assert_ne!(
            network(address("2001:db8:1:2::1")),
            network(address("2001:db8:1:3::1"))
        );
        assert_eq!(
            network(address("::ffff:192.0.2.1")),
            address("192.0.2.1"),
            "IPv4 over an IPv6 socket"
        );
    }
}
