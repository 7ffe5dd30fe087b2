//! Decoding in a process of its own: what a decoder can do to its parent, and what it costs.
#![cfg(target_os = "linux")]

use std::{
    cell::RefCell,
    fs,
    io::Cursor,
    path::PathBuf,
    time::{Duration, Instant},
};

use decode::{
    Color, Format, Header, Limits, Reason, Refusal, Request,
    process::{DecoderProcess, End, Failure, Settings, Unavailable},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn limits() -> Limits {
    Limits {
        pixels_max: 40_000_000,
        side_px_max: 12_000,
        bytes_max: 256 << 20,
        formats: vec![Format::Jpeg, Format::Png, Format::Webp, Format::Gif],
    }
}

thread_local! {
    /// How the decoders of this test ended. Each test has a thread of its own.
    static ENDS: RefCell<Vec<End>> = const { RefCell::new(Vec::new()) };
}

fn take_ends() -> Vec<End> {
    ENDS.take()
}

/// The library for HEIC and AVIF loads files, starts a thread and keeps to one CPU: the sandbox must allow what it needs.
#[test]
fn a_decoder_decodes_the_formats_of_phones_in_its_sandbox() {
    let formats = [Format::Jxl, Format::Avif, Format::Heic];
    if let Err(missing) = decode::preload(&formats) {
        eprintln!("not tested: {missing}");
        return;
    }
    let limits = Limits {
        formats: formats.to_vec(),
        ..limits()
    };
    let mut decoder = DecoderProcess::start(Settings {
        limits: limits.clone(),
        ..settings(env!("CARGO_BIN_EXE_darkroom-decoder"))
    })
    .expect("starts");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/formats");
    let mut images = 0;
    for file in fs::read_dir(folder).expect("images").flatten() {
        let bytes = fs::read(file.path()).expect("an image");
        let Ok(header) = Header::read(Cursor::new(&bytes), &limits) else {
            continue;
        };
        let here = decode::decode(&bytes, &header, request(1.0), &limits, Vec::new());
        let here = here.expect("decodes here");
        let pixels = decoder.decode(&bytes, &header, request(1.0));
        let pixels = pixels.unwrap_or_else(|failure| panic!("{file:?}: {failure:?}"));
        assert!(pixels.rgb() == here.pixels.as_raw().as_slice(), "{file:?}");
        images += 1;
    }
    assert!(images > 20, "{images}");
    assert!(take_ends().is_empty());
}

fn settings(program: &str) -> Settings {
    Settings {
        program: program.into(),
        limits: limits(),
        image_bytes_max: 20_000_000,
        cpu_max: Duration::from_secs(10),
        on_end: |end| ENDS.with_borrow_mut(|ends| ends.push(end.clone())),
    }
}

/// The decoder that does what an image asks for.
fn test_decoder() -> DecoderProcess {
    DecoderProcess::start(settings(env!("CARGO_BIN_EXE_test-decoder"))).expect("starts")
}

fn photo() -> Vec<u8> {
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"));
    fs::read(fixtures.join("photos/cat.jpg")).expect("a photo")
}

/// A photo that asks the test decoder for something, in a comment of the JPEG.
fn photo_that_asks_for(wish: &str) -> Vec<u8> {
    let comment = format!("test-decoder: {wish};");
    let length = u16::try_from(comment.len() + 2).expect("short");
    let photo = photo();
    let (start, rest) = photo.split_at(2);
    [
        start,
        b"\xff\xfe",
        &length.to_be_bytes(),
        comment.as_bytes(),
        rest,
    ]
    .concat()
}

fn request(scale_min: f64) -> Request {
    Request {
        scale_min,
        color: Color::Srgb,
    }
}

/// Size and pixels of a photo, decoded at this scale.
fn decode(
    decoder: &mut DecoderProcess,
    bytes: &[u8],
    scale_min: f64,
) -> Result<(u32, u32, Vec<u8>), Failure> {
    let header = Header::read(Cursor::new(bytes), &limits()).expect("a header");
    let pixels = decoder.decode(bytes, &header, request(scale_min))?;
    Ok((pixels.width, pixels.height, pixels.rgb().to_vec()))
}

fn ask_for(decoder: &mut DecoderProcess, wish: &str) -> Failure {
    let photo = photo_that_asks_for(wish);
    decode(decoder, &photo, 0.2)
        .map(|(width, height, _)| (width, height))
        .expect_err(wish)
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Refused(refusal) => refusal,
        other => panic!("not a refusal: {other:?}"),
    }
}

/// What the test decoder says of a wish.
fn told(decoder: &mut DecoderProcess, wish: &str) -> String {
    refusal(ask_for(decoder, wish)).detail
}

fn assert_decodes(decoder: &mut DecoderProcess) {
    let (width, height, rgb) = decode(decoder, &photo(), 0.2).expect("decodes");
    assert_eq!(rgb.len(), width as usize * height as usize * 3);
}

#[test]
fn a_decoder_gives_the_pixels_that_decoding_in_this_process_gives() {
    let mut decoder =
        DecoderProcess::start(settings(env!("CARGO_BIN_EXE_darkroom-decoder"))).expect("starts");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/photos");
    let mut photos = 0;
    for file in fs::read_dir(folder).expect("photos").flatten() {
        let Ok(bytes) = fs::read(file.path()) else {
            continue; // a folder
        };
        let Ok(header) = Header::read(Cursor::new(&bytes), &limits()) else {
            continue;
        };
        for scale_min in [0.1, 0.3, 1.0] {
            let here = decode::decode(&bytes, &header, request(scale_min), &limits(), Vec::new());
            let here = here.expect("decodes here");
            let pixels = decoder
                .decode(&bytes, &header, request(scale_min))
                .expect("decodes");
            assert_eq!((pixels.width, pixels.height), here.pixels.dimensions());
            assert_eq!(pixels.warnings, here.warnings);
            assert!(pixels.rgb() == here.pixels.as_raw().as_slice(), "{file:?}");
        }
        photos += 1;
    }
    assert!(photos > 3, "{photos}");
    assert!(take_ends().is_empty());
}

#[test]
fn a_bad_image_is_refused_with_its_reason_and_the_decoder_stays() {
    let mut decoder =
        DecoderProcess::start(settings(env!("CARGO_BIN_EXE_darkroom-decoder"))).expect("starts");
    let pid = decoder.pid();
    let photo = photo();
    let failure = decode(&mut decoder, &photo[..photo.len() / 2], 0.2).expect_err("cut");
    let refusal = refusal(failure);
    assert_eq!(refusal.reason, Reason::Undecodable);
    assert!(!refusal.detail.is_empty(), "{refusal:?}");
    assert_decodes(&mut decoder);
    assert_eq!(decoder.pid(), pid);
}

#[test]
fn an_image_over_the_limits_is_refused_without_asking_the_decoder() {
    let mut small = settings("/nowhere/darkroom-decoder");
    small.limits.pixels_max = 100;
    let mut decoder = DecoderProcess::new(small).expect("memory");
    let failure = decode(&mut decoder, &photo(), 0.2).expect_err("too large");
    assert_eq!(refusal(failure).reason, Reason::TooManyPixels);
}

#[test]
fn a_decoder_that_crashes_costs_one_image() {
    let mut decoder = test_decoder();
    for (wish, signal) in [
        ("abort", "SIGABRT"),
        ("segfault", "SIGSEGV"),
        ("exit", "exit code 7"),
    ] {
        let Failure::Ended(End::Crashed(how)) = ask_for(&mut decoder, wish) else {
            panic!("{wish}");
        };
        assert_eq!(how, signal);
        assert_eq!(take_ends(), [End::Crashed(how)], "one try");
        assert_decodes(&mut decoder);
    }
}

#[test]
fn a_decoder_that_panics_refuses_the_image_and_stays() {
    let mut decoder = test_decoder();
    let pid = decoder.pid();
    let refusal = refusal(ask_for(&mut decoder, "panic"));
    assert_eq!(refusal.reason, Reason::Undecodable);
    let cause = refusal.cause.expect("a cause").to_string();
    assert_eq!(cause, "a decoder panicked: as the image asked");
    assert_decodes(&mut decoder);
    assert_eq!(decoder.pid(), pid);
}

#[test]
fn a_decoder_that_computes_without_end_is_killed_by_its_cpu_time() {
    let mut settings = settings(env!("CARGO_BIN_EXE_test-decoder"));
    settings.cpu_max = Duration::from_secs(1);
    let mut decoder = DecoderProcess::start(settings).expect("starts");
    let end = End::TookTooLong(Duration::from_secs(1));
    assert!(matches!(ask_for(&mut decoder, "hang"), Failure::Ended(ended) if ended == end));
    assert_eq!(take_ends(), [end], "one try");
    assert_decodes(&mut decoder);
}

#[test]
fn a_decoder_that_sleeps_is_killed_after_twice_that_time() {
    let mut settings = settings(env!("CARGO_BIN_EXE_test-decoder"));
    settings.cpu_max = Duration::from_millis(100);
    let mut decoder = DecoderProcess::start(settings).expect("starts");
    let began = Instant::now();
    let failure = ask_for(&mut decoder, "sleep");
    assert!(
        matches!(failure, Failure::Ended(End::Asleep(_))),
        "{failure:?}"
    );
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_decodes(&mut decoder);
}

#[test]
fn a_decoder_that_allocates_without_end_ends_at_its_limit() {
    let mut decoder = test_decoder();
    let failure = ask_for(&mut decoder, "allocate");
    assert!(
        matches!(&failure, Failure::Ended(End::Crashed(how)) if how == "SIGABRT"),
        "{failure:?}"
    );
    assert_decodes(&mut decoder);
}

#[test]
fn an_answer_that_the_header_does_not_allow_costs_the_decoder() {
    let mut decoder = test_decoder();
    for wish in ["a wrong size", "no size", "a huge size"] {
        let failure = ask_for(&mut decoder, wish);
        assert!(
            matches!(failure, Failure::Ended(End::WrongAnswer(_))),
            "{failure:?}"
        );
        assert_decodes(&mut decoder);
    }
}

#[test]
fn pixels_that_a_crashed_decoder_left_are_gone() {
    let mut decoder = test_decoder();
    ask_for(&mut decoder, "fill the pixels");
    let (_, _, rgb) = decode(&mut decoder, &photo(), 0.2).expect("decodes");
    assert!(rgb.iter().any(|byte| *byte != 7));
}

/// `EPERM` in the words of the system.
const REFUSED: &str = "Operation not permitted";

#[test]
fn a_decoder_cannot_open_a_socket() {
    assert!(told(&mut test_decoder(), "socket").contains(REFUSED));
}

#[test]
fn a_decoder_cannot_open_a_file() {
    let mut decoder = test_decoder();
    for wish in ["read a file", "write a file"] {
        let told = told(&mut decoder, wish);
        assert!(told.contains(REFUSED), "{told}");
    }
}

#[test]
fn a_decoder_cannot_start_a_program_or_a_thread() {
    let mut decoder = test_decoder();
    for wish in ["program", "thread"] {
        let told = told(&mut decoder, wish);
        assert!(told.starts_with("Err("), "{told}");
    }
}

#[test]
fn a_decoder_cannot_signal_its_parent_or_run_new_code() {
    let mut decoder = test_decoder();
    assert_eq!(told(&mut decoder, "signal"), "Err(EPERM)");
    let told = told(&mut decoder, "code");
    assert!(told.contains(REFUSED), "{told}");
}

#[test]
fn a_decoder_has_an_empty_environment() {
    assert_eq!(told(&mut test_decoder(), "environment"), "[]");
}

fn signal(decoder: &DecoderProcess, signal: Signal) {
    let pid = decoder.pid().expect("it runs");
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("signaled");
}

#[test]
fn a_decoder_that_is_killed_between_two_images_costs_nothing() {
    let mut decoder = test_decoder();
    for _ in 0..3 {
        signal(&decoder, Signal::SIGKILL);
        assert_decodes(&mut decoder);
    }
    // Killed before or after it got the image: the parent may be faster.
    let ends = take_ends();
    assert!(
        ends.len() == 3
            && ends
                .iter()
                .all(|end| matches!(end, End::Killed | End::EndedIdle(_))),
        "{ends:?}"
    );
}

/// How often the process began to wait for something.
fn waits(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let waits = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    waits.trim().parse().ok()
}

#[test]
fn an_image_whose_decoder_is_killed_is_decoded_once_more() {
    let mut settings = settings(env!("CARGO_BIN_EXE_test-decoder"));
    settings.cpu_max = Duration::from_secs(2);
    let mut decoder = DecoderProcess::start(settings).expect("starts");
    let pid = decoder.pid().expect("it runs");
    let before = waits(pid);
    std::thread::scope(|scope| {
        // Killed when it has the image and sleeps over it.
        scope.spawn(move || {
            let until = Instant::now() + Duration::from_secs(2);
            while waits(pid) <= before && Instant::now() < until {
                std::thread::yield_now();
            }
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("signaled");
        });
        // The second decoder sleeps until its time is over.
        let failure = ask_for(&mut decoder, "sleep");
        assert!(
            matches!(failure, Failure::Ended(End::Asleep(_))),
            "{failure:?}"
        );
    });
    let ends = take_ends();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert_decodes(&mut decoder);
}

#[test]
fn a_decoder_ignores_the_signals_of_a_terminal() {
    let mut decoder = test_decoder();
    let pid = decoder.pid();
    for ignored in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        signal(&decoder, ignored);
    }
    assert_decodes(&mut decoder);
    assert_eq!((decoder.pid(), take_ends()), (pid, vec![]));
}

#[test]
fn a_decoder_ends_with_its_parent() {
    let mut decoder = test_decoder();
    assert_decodes(&mut decoder);
    let pid = Pid::from_raw(decoder.pid().expect("it runs").cast_signed());
    drop(decoder);
    kill(pid, None).expect_err("it has ended");
}

#[test]
fn a_missing_or_wrong_program_is_told() {
    let start = |program| DecoderProcess::start(settings(program)).expect_err("no decoder");
    let missing = start("/nowhere/darkroom-decoder");
    assert!(matches!(&missing, Unavailable::NotFound(_)), "{missing}");
    let wrong = start("/bin/true");
    assert!(matches!(&wrong, Unavailable::Ended(_)), "{wrong}");
}
