//! A decoder for tests: it does to itself what an image asks for. An image asks by a text in its bytes, `test-decoder: hang;`
//! for example; a comment of a JPEG is the place for it. Other images are decoded as `darkroom-decoder` does.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fmt::Debug, fs::File, net::UdpSocket, process::ExitCode};

    use decode::{
        Reason, Refusal,
        process::{EncodedImage, Written, decode_into, serve},
    };

    const MARK: &[u8] = b"test-decoder: ";

    pub(super) fn main() -> ExitCode {
        let mut memory = Vec::new();
        serve(|image, pixels| match wish(image.bytes) {
            Some(wish) => fulfil(&wish, image, pixels),
            None => decode_into(image, pixels, &mut memory),
        })
    }

    /// The word between the mark and a semicolon.
    fn wish(bytes: &[u8]) -> Option<String> {
        let at = bytes.windows(MARK.len()).position(|part| part == MARK)?;
        let word = bytes[at + MARK.len()..]
            .split(|byte| *byte == b';')
            .next()?;
        Some(String::from_utf8_lossy(word).into_owned())
    }

    fn fulfil(wish: &str, image: EncodedImage<'_>, pixels: &mut [u8]) -> Result<Written, Refusal> {
        let size = |width, height| {
            let warnings = Vec::new();
            Ok(Written {
                width,
                height,
                warnings,
            })
        };
        match wish {
            "abort" => std::process::abort(),
            "exit" => std::process::exit(7),
            "panic" => panic!("as the image asked"),
            "segfault" => segfault(),
            "hang" => loop {
                std::hint::black_box(());
            },
            "sleep" => loop {
                std::thread::park();
            },
            "allocate" => allocate_without_end(),
            "fill the pixels" => {
                pixels.fill(7);
                segfault()
            }
            "a wrong size" => size(image.header.width + 1, image.header.height),
            "no size" => size(0, 0),
            "a huge size" => size(u32::MAX, u32::MAX),
            "socket" => say(UdpSocket::bind("127.0.0.1:0")),
            "read a file" => say(File::open("/etc/hostname")),
            "write a file" => say(File::create("/tmp/darkroom-test-decoder")),
            "program" => say(std::process::Command::new("/bin/true").status()),
            "thread" => say(std::thread::Builder::new().spawn(|| ())),
            "signal" => say(nix::sys::signal::kill(nix::unistd::getppid(), None)),
            "code" => say(memory_for_code()),
            "environment" => say(std::env::vars_os().collect::<Vec<_>>()),
            _ => say(format!("unknown: {wish}")),
        }
    }

    /// Tells the test what came of the wish.
    fn say(outcome: impl Debug) -> Result<Written, Refusal> {
        Err(Refusal::new(Reason::Undecodable, format!("{outcome:?}")))
    }

    fn allocate_without_end() -> ! {
        let mut all = Vec::new();
        loop {
            all.push(vec![7_u8; 16 << 20]);
        }
    }

    fn segfault() -> ! {
        #[allow(unsafe_code)]
        // SAFETY: not safe, and meant so: the process ends here.
        unsafe {
            std::ptr::without_provenance::<u8>(8).read_volatile();
        }
        unreachable!("address 8 cannot be read")
    }

    /// Asks for memory that may be run.
    fn memory_for_code() -> std::io::Result<()> {
        #[allow(unsafe_code)]
        // SAFETY: a new mapping overlaps with nothing.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    }
}
