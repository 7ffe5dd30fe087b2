//! What a pickle would build, as far as its opcodes say. Nothing of a pickle is ever executed.

use std::collections::HashMap;

/// Longest name of a class or key that is kept.
const NAME_BYTES_MAX: usize = 200;
/// Most places of the memo that are kept. Names of classes stand at its beginning.
const MEMO_MAX: usize = 10_000;
/// Where checkpoints keep the weights of the model, by habit of many training programs.
const WEIGHT_KEYS: [&str; 9] = [
    "state_dict",
    "model_state_dict",
    "model",
    "model_ema",
    "ema",
    "net",
    "params_ema",
    "params",
    "weights",
];

/// What `torch.load` or `pickle.load` would return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pickled {
    /// Tensors without the code of a model; `key`: where in a checkpoint they are.
    Tensors { key: Option<String> },
    /// A module of PyTorch, by the name of its class; `key`: where in a checkpoint it is.
    Module { class: String, key: Option<String> },
    /// Something else, with its first class.
    Object { class: Option<String> },
}

/// Looks at the first pickle in `bytes`, which may be cut off. Returns the bytes behind it too. `None`: this is no pickle.
pub(super) fn scan(bytes: &[u8]) -> Option<(Pickled, &[u8])> {
    let mut scanner = Scanner {
        rest: bytes,
        ..Scanner::default()
    };
    if !matches!(bytes, [0x80, 0..=5, ..]) {
        return None;
    }
    while !scanner.has_stopped {
        match scanner.step() {
            Step::Done => {}
            Step::CutOff => break,
            Step::NoPickle => return None,
        }
    }
    Some((scanner.pickled(), scanner.rest))
}

enum Step {
    Done,
    CutOff,
    NoPickle,
}

#[derive(Debug, Default)]
struct Scanner<'a> {
    rest: &'a [u8],
    has_stopped: bool,
    /// The two objects that were pushed last, if they are texts: a class may be named by these.
    last: [Option<&'a str>; 2],
    memo: HashMap<usize, &'a str>,
    memo_length: usize,
    first_class: Option<String>,
    last_class: Option<String>,
    has_tensors: bool,
    key: Option<&'static str>,
    module: Option<String>,
}

impl<'a> Scanner<'a> {
    fn pickled(&self) -> Pickled {
        let key = self.key.map(str::to_owned);
        match &self.module {
            Some(class) => Pickled::Module {
                class: class.clone(),
                key,
            },
            None if self.has_tensors => Pickled::Tensors { key },
            None => Pickled::Object {
                class: self.first_class.clone(),
            },
        }
    }

    /// Reads one opcode.
    fn step(&mut self) -> Step {
        match self.read() {
            Some(true) => Step::Done,
            Some(false) => Step::NoPickle,
            None => Step::CutOff,
        }
    }

    /// `None`: the bytes end; `false`: this is no opcode.
    fn read(&mut self) -> Option<bool> {
        match self.take(1)?[0] {
            b'.' => self.has_stopped = true,
            // Texts.
            b'X' | b'T' => self.text_of::<4>()?,
            b'U' | 0x8c => self.text_of::<1>()?,
            0x8d => self.text_of::<8>()?,
            b'S' | b'V' => {
                let text = self.line()?;
                self.push_text(text);
            }
            // Classes.
            b'c' | b'i' => {
                let (module, class) = (self.line()?, self.line()?);
                self.class(module, class);
                self.push(None);
            }
            0x93 => {
                if let [Some(module), Some(class)] = self.last {
                    self.class(module, class);
                }
                self.push(None);
            }
            // The memo.
            b'q' => self.put::<1>()?,
            b'r' => self.put::<4>()?,
            b'p' => {
                let at = self.line()?.parse();
                self.memorize(at.unwrap_or(usize::MAX));
            }
            0x94 => self.memorize(self.memo_length),
            b'h' => self.get::<1>()?,
            b'j' => self.get::<4>()?,
            b'g' => {
                let at = self.line()?.parse().unwrap_or(usize::MAX);
                self.push(self.memo.get(&at).copied());
            }
            // Numbers and bytes.
            b'K' | 0x82 => self.skip_and_push(1)?,
            b'M' | 0x83 => self.skip_and_push(2)?,
            b'J' | 0x84 => self.skip_and_push(4)?,
            b'G' => self.skip_and_push(8)?,
            b'F' | b'I' | b'L' | b'P' => {
                self.line()?;
                self.push(None);
            }
            0x8a | b'C' => self.skip_long::<1>()?,
            0x8b | b'B' => self.skip_long::<4>()?,
            0x8e | 0x96 => self.skip_long::<8>()?,
            // The protocol, and the length of a frame.
            0x80 => self.skip(1)?,
            0x95 => self.skip(8)?,
            // Opcodes without an argument.
            b'('
            | b')'
            | b']'
            | b'}'
            | b'0'
            | b'1'
            | b'2'
            | b'N'
            | b'Q'
            | b'R'
            | b'a'
            | b'b'
            | b'd'
            | b'e'
            | b'l'
            | b'o'
            | b's'
            | b't'
            | b'u'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x92
            | 0x97
            | 0x98 => self.push(None),
            _ => return Some(false),
        }
        Some(true)
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<usize> {
        let mut number = [0; 8];
        number[..N].copy_from_slice(self.take(N)?);
        usize::try_from(u64::from_le_bytes(number)).ok()
    }

    fn line(&mut self) -> Option<&'a str> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = self.take(end + 1)?;
        Some(str::from_utf8(&line[..end]).unwrap_or_default())
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.take(bytes).map(|_| ())
    }

    fn skip_and_push(&mut self, bytes: usize) -> Option<()> {
        self.take(bytes)?;
        self.push(None);
        Some(())
    }

    fn skip_long<const N: usize>(&mut self) -> Option<()> {
        let bytes = self.number::<N>()?;
        self.skip_and_push(bytes)
    }

    fn text_of<const N: usize>(&mut self) -> Option<()> {
        let bytes = self.number::<N>()?;
        let text = str::from_utf8(self.take(bytes)?).unwrap_or_default();
        self.push_text(text);
        Some(())
    }

    fn push_text(&mut self, text: &'a str) {
        if text.len() > NAME_BYTES_MAX {
            return self.push(None);
        }
        // The first object of every module of PyTorch. Its class stands in front.
        if text == "_parameters" && self.module.is_none() {
            self.module.clone_from(&self.last_class);
        }
        let is_in_front = self.key.is_none() && !self.has_tensors && self.module.is_none();
        if is_in_front {
            self.key = WEIGHT_KEYS.into_iter().find(|key| *key == text);
        }
        self.push(Some(text));
    }

    fn push(&mut self, text: Option<&'a str>) {
        self.last = [self.last[1], text];
    }

    fn class(&mut self, module: &str, class: &str) {
        self.has_tensors |= module == "torch._utils" && class.starts_with("_rebuild_");
        let name: String = format!("{module}.{class}")
            .chars()
            .map(|c| if c.is_ascii_graphic() { c } else { '?' })
            .take(NAME_BYTES_MAX)
            .collect();
        self.first_class.get_or_insert_with(|| name.clone());
        self.last_class = Some(name);
    }

    fn put<const N: usize>(&mut self) -> Option<()> {
        let at = self.number::<N>()?;
        self.memorize(at);
        Some(())
    }

    /// Remembers the last object, if it is a text.
    fn memorize(&mut self, at: usize) {
        self.memo_length = self.memo_length.saturating_add(1);
        if let Some(text) = self.last[1]
            && self.memo.len() < MEMO_MAX
        {
            self.memo.insert(at, text);
        }
    }

    fn get<const N: usize>(&mut self) -> Option<()> {
        let at = self.number::<N>()?;
        self.push(self.memo.get(&at).copied());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Pickled, scan};

    fn pickled(bytes: &[u8]) -> Option<Pickled> {
        scan(bytes).map(|(pickled, _)| pickled)
    }

    #[test]
    fn a_class_named_through_the_memo_is_found() {
        // Protocol 4: the texts are memorized, and STACK_GLOBAL takes both from the memo.
        let bytes =
            b"\x80\x04\x8c\x03own\x94\x8c\x03Net\x940h\x00h\x01\x93)\x81}(\x8c\x0b_parameters}u.";
        let class = "own.Net".to_owned();
        assert_eq!(pickled(bytes), Some(Pickled::Module { class, key: None }));
    }

    #[test]
    fn a_text_that_claims_more_bytes_than_there_are_ends_the_scan() {
        let bytes = b"\x80\x02cown\nThing\nX\xff\xff\xff\xffab";
        let class = Some("own.Thing".to_owned());
        assert_eq!(pickled(bytes), Some(Pickled::Object { class }));
    }

    #[test]
    fn bytes_with_an_unknown_opcode_are_no_pickle() {
        assert_eq!(pickled(b"\x80\x02\xfe."), None);
        assert_eq!(pickled(b"text"), None);
    }

    #[test]
    fn the_name_of_a_class_cannot_steer_a_terminal() {
        let class = Some("own.?[2J".to_owned());
        assert_eq!(
            pickled(b"\x80\x02cown\n\x1b[2J\n."),
            Some(Pickled::Object { class })
        );
    }

    #[test]
    fn a_prefix_of_weights_in_the_metadata_is_no_key() {
        let bytes = b"\x80\x02}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\nX\x05\x00\x00\x00modelK\x01u.";
        assert_eq!(pickled(bytes), Some(Pickled::Tensors { key: None }));
    }
}
