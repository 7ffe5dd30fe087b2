use crate::http::upgrade_offers::UpgradeOffers;

/// The bytes of a connection go on alike however they arrive, and none is added or lost. Only the word `upgrade` is changed.
pub fn offers(bytes: &[u8]) {
    let whole = pass([bytes]);
    assert_eq!(pass(fuzzing::pieces(bytes)), whole, "in pieces");
    assert_eq!(whole.len(), bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if whole[at] == bytes[at] {
            at += 1;
            continue;
        }
        let word = at..at + 7;
        assert!(bytes[word.clone()].eq_ignore_ascii_case(b"upgrade"));
        assert_eq!(&whole[word.clone()], b"x-offer");
        at = word.end;
    }
}

/// What goes on when the bytes arrive in these pieces.
fn pass<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut offers, mut passed, mut held) = (UpgradeOffers::default(), Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let length = offers.ignore(&mut held);
        passed.extend(held.drain(..length));
    }
    passed.extend(held);
    passed
}
