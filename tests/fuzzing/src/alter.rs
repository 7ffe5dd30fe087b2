//! Altered copies of seeds. The same number always makes the same copy.

/// Where headers are: half of all changes happen there.
const HEAD_BYTES: usize = 256;
/// Most bytes that one change removes, repeats or takes from another seed.
const SPAN_BYTES_MAX: usize = 64;
/// Bytes that parsers often compare with.
const TELLING_BYTES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'-'];

/// Random numbers that are equal in every run (splitmix64).
#[derive(Debug)]
pub(crate) struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % (end as u64).max(1)) as usize
    }

    fn position(&mut self, bytes: &[u8]) -> usize {
        let is_in_head = self.below(2) == 0;
        let end = if is_in_head { HEAD_BYTES } else { usize::MAX };
        self.below(end.min(bytes.len()))
    }

    fn span(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.position(bytes);
        let length = self.below(SPAN_BYTES_MAX.min(bytes.len() - start)) + 1;
        start..(start + length).min(bytes.len())
    }
}

/// A copy of `seed` with one to four changes. Some bytes may come from `other`.
pub(crate) fn alter(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        change(&mut bytes, other, numbers);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    let at = numbers.position(bytes);
    match numbers.below(8) {
        0 => {
            let inserted = TELLING_BYTES[numbers.below(TELLING_BYTES.len())];
            bytes.insert(at, inserted);
        }
        1 => {
            let span = numbers.span(other);
            bytes.splice(at..at, other[span].iter().copied());
        }
        // An empty copy can only grow.
        _ if bytes.is_empty() => bytes.push(numbers.next() as u8),
        2 => bytes[at] ^= 1 << numbers.below(8),
        3 => bytes[at] = TELLING_BYTES[numbers.below(TELLING_BYTES.len())],
        4 => {
            bytes[at] = bytes[at]
                .wrapping_add(numbers.below(9) as u8)
                .wrapping_sub(4);
        }
        5 => drop(bytes.drain(numbers.span(bytes))),
        6 => {
            let repeated = bytes[numbers.span(bytes)].to_vec();
            bytes.splice(at..at, repeated);
        }
        _ => bytes.truncate(at),
    }
}

#[cfg(test)]
mod tests {
    use super::{Numbers, alter};

    #[test]
    fn a_number_makes_one_copy_and_every_seed_can_be_altered() {
        for seed in [&b""[..], b"a", b"a longer seed"] {
            let copies = |number| {
                let mut numbers = Numbers(number);
                let copies = (0..1000).map(|_| alter(seed, b"other", &mut numbers));
                copies.collect::<Vec<_>>()
            };
            assert_eq!(copies(1), copies(1));
            assert_ne!(copies(1), copies(2));
        }
    }
}
