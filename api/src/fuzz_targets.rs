//! The fuzz targets `sniff`, `multipart`, `ndjson`, `cursor` and `offers`: functions that take any bytes and panic if a rule is broken.
//! `fuzz/run` runs them under libFuzzer; the tests below run them over seeds and altered seeds.

mod cursor;
mod multipart;
mod ndjson;
mod offers;
mod requests;
mod sniff;

pub use self::{
    cursor::cursor, multipart::multipart, ndjson::ndjson, offers::offers, sniff::sniff,
};

#[cfg(test)]
mod tests {
    use fuzzing::smoke;

    #[test]
    fn uploads_are_taken_alike_however_their_bytes_arrive() {
        let images = [
            "fuzz/seeds/image",
            "tests/fixtures/inputs",
            "tests/fixtures/bad",
            "tests/fixtures/formats",
        ];
        smoke(super::sniff, &images, "", 3_000);
    }

    #[test]
    fn forms_are_read_alike_however_their_bytes_arrive() {
        smoke(super::multipart, &["fuzz/seeds/multipart"], "", 2_000);
    }

    #[test]
    fn lines_are_read_alike_however_their_bytes_arrive_and_survive_being_written() {
        smoke(super::ndjson, &["fuzz/seeds/ndjson"], "", 2_000);
    }

    #[test]
    fn cursors_and_queries_survive_being_written() {
        smoke(super::cursor, &["fuzz/seeds/cursor"], "", 10_000);
    }

    #[test]
    fn the_bytes_of_a_connection_go_on_alike_however_they_arrive() {
        smoke(super::offers, &["fuzz/seeds/offers"], "", 10_000);
    }
}
