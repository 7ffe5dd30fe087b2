//! `darkroom-decoder`: decodes images for `darkroom-worker`, which starts it (docs/adr/0021-decoding-in-a-child.md).

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use std::io::IsTerminal as _;

    if std::env::args_os().len() > 1 || std::io::stdin().is_terminal() {
        return say_who_starts_it();
    }
    let mut memory = Vec::new();
    decode::process::serve(|image, pixels| decode::process::decode_into(image, pixels, &mut memory))
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    say_who_starts_it()
}

fn say_who_starts_it() -> ExitCode {
    eprintln!(
        "darkroom-decoder {} decodes images for darkroom-worker, which starts it on Linux. It has no options.",
        env!("CARGO_PKG_VERSION")
    );
    ExitCode::from(2)
}
