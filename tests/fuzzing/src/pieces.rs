use std::io::{self, BufRead, Read, Seek, SeekFrom};

/// The longest piece.
const PIECE_BYTES_MAX: usize = 32;

/// Cuts bytes into pieces of 1 to 32 bytes.
///
/// The first byte of a piece decides its length. So the borders move with the bytes, and a fuzzer can move the borders.
pub fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let piece;
        (piece, bytes) = bytes.split_at(piece_length(bytes)?);
        Some(piece)
    })
}

/// Length of the piece at the start of the bytes; `None` if there are no bytes.
fn piece_length(bytes: &[u8]) -> Option<usize> {
    let length = usize::from(*bytes.first()?) % PIECE_BYTES_MAX + 1;
    Some(length.min(bytes.len()))
}

/// Reads bytes in [`pieces`]: each read returns at most one piece.
#[derive(Debug)]
pub struct PieceReader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Where the current piece ends.
    piece_end: usize,
}

impl<'a> PieceReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            piece_end: 0,
        }
    }
}

impl BufRead for PieceReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.piece_end {
            let rest = self.bytes.get(self.position..).unwrap_or_default();
            self.piece_end = self.position + piece_length(rest).unwrap_or(0);
        }
        Ok(self
            .bytes
            .get(self.position..self.piece_end)
            .unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for PieceReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let length = piece.len().min(into.len());
        into[..length].copy_from_slice(&piece[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl Seek for PieceReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => (self.bytes.len() as u64).checked_add_signed(offset),
            SeekFrom::Current(offset) => (self.position as u64).checked_add_signed(offset),
        };
        let position = position.ok_or(io::ErrorKind::InvalidInput)?;
        // As in a file, a position past the end is allowed: nothing is read there.
        self.position = usize::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.piece_end = self.position;
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

    use super::{PieceReader, pieces};

    #[test]
    fn pieces_make_up_the_whole() {
        let bytes: Vec<u8> = (0..=255).collect();
        let cut: Vec<_> = pieces(&bytes).collect();
        assert_eq!(cut.concat(), bytes);
        assert!(cut.iter().all(|piece| (1..=32).contains(&piece.len())));
        assert!(cut.len() > 8);
    }

    #[test]
    fn a_reader_of_pieces_reads_and_seeks_like_a_file() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut reader = PieceReader::new(&bytes);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("memory can be read");
        assert_eq!(read, bytes);
        let mut byte = [0];
        for (to, expected) in [
            (SeekFrom::Start(7), 7),
            (SeekFrom::Current(2), 10),
            (SeekFrom::End(-1), 255),
        ] {
            reader.seek(to).expect("a position inside");
            reader.read_exact(&mut byte).expect("a byte");
            assert_eq!(byte, [expected]);
        }
        assert!(reader.seek(SeekFrom::Current(-257)).is_err());
        assert_eq!(reader.seek(SeekFrom::End(9)).expect("past the end"), 265);
        assert_eq!(reader.read(&mut byte).expect("the end"), 0);
    }
}
