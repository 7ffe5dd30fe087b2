use ::gif::{Encoder, Frame};

use super::decode;
use crate::{
    Decoded, Header, Limits, Reason, Warning,
    twins::{assert_no_cut_changes_pixels, assert_twins, decode_as_stored, fixture, input, reason},
};

#[test]
fn odd_files_look_like_their_twins() {
    assert_twins("gif-87a.gif", "ref-tiny-gif.png", &[], 0.0);
    assert_twins("gif-double-clears.gif", "ref-tiny-gif.png", &[], 0.0);
    assert_twins("gif-many-clears.gif", "ref-tiny-gif.png", &[], 0.0);
    let cut = [Warning::MissingEnd];
    assert_twins("gif-second-frame-cut.gif", "ref-tiny-gif.png", &cut, 0.0);
}

#[test]
fn a_file_without_a_trailer_is_accepted() {
    let mut file = input("gif-87a.gif");
    let whole = decode_as_stored(&file).expect("accepted");
    assert_eq!(file.pop(), Some(b';'));
    let cut = decode_as_stored(&file).expect("accepted");
    assert!(cut.pixels == whole.pixels);
    assert_eq!(cut.warnings, [Warning::MissingEnd]);
}

#[test]
fn a_file_with_missing_pixels_is_refused() {
    let first_frame = fixture("bad/truncated.gif");
    assert_eq!(reason(&first_frame), Reason::Undecodable);
    let file = encode((4, 4), &[frame((0, 0), (4, 4), vec![1; 16])]);
    assert_no_cut_changes_pixels(&file);
}

#[test]
fn a_frame_outside_of_the_screen_is_cropped() {
    let decoded = decode_as_stored(&input("gif-frame-far-away.gif")).expect("accepted");
    assert!(
        decoded
            .pixels
            .as_raw()
            .iter()
            .all(|channel| *channel == 255)
    );

    let colors: Vec<u8> = (1..10).collect();
    let file = encode((4, 3), &[frame((2, 1), (3, 3), colors)]);
    let decoded = decode_as_stored(&file).expect("accepted");
    assert_eq!(
        reds(&decoded),
        [255, 255, 255, 255, 255, 255, 1, 2, 255, 255, 4, 5]
    );
}

#[test]
fn a_frame_larger_than_the_screen_is_cropped() {
    let file = encode((1, 2), &[frame((0, 0), (3, 3), (1..10).collect())]);
    let header = Header {
        width: 1,
        height: 2,
        picture: (3, 3),
        ..Header::read(std::io::Cursor::new(&file), &Limits::tests()).expect("a header")
    };
    let pixels = decode(&file, &header, Vec::new(), &mut Vec::new()).expect("accepted");
    assert_eq!(pixels.as_raw(), &[1, 0, 0, 4, 0, 0]);

    let small = Header {
        picture: (1, 2),
        ..header
    };
    let refusal = decode(&file, &small, Vec::new(), &mut Vec::new()).expect_err("refused");
    assert_eq!(refusal.reason, Reason::TooManyPixels);
}

#[test]
fn transparent_pixels_and_colors_beyond_the_palette_are_white() {
    let mut transparent = frame((0, 0), (4, 1), vec![1, 2, 3, 200]);
    transparent.transparent = Some(2);
    let mut file = encode((4, 1), &[transparent]);
    // The palette shrinks to 128 colors.
    file[10] -= 1;
    file.drain(13 + 3 * 128..13 + 3 * 256);
    let decoded = decode_as_stored(&file).expect("accepted");
    assert_eq!(reds(&decoded), [1, 255, 3, 255]);
}

#[test]
fn interlaced_rows_are_put_in_order() {
    let order = [0, 8, 4, 2, 6, 10, 1, 3, 5, 7, 9];
    let mut interlaced = frame((0, 0), (1, 11), order.to_vec());
    interlaced.interlaced = true;
    let decoded = decode_as_stored(&encode((1, 11), &[interlaced])).expect("accepted");
    assert_eq!(reds(&decoded), (0..11).collect::<Vec<u8>>());
}

#[test]
fn only_the_first_frame_is_shown() {
    let (first, second) = (vec![7; 4], vec![9; 4]);
    let frames = [frame((0, 0), (2, 2), first), frame((0, 0), (2, 2), second)];
    let decoded = decode_as_stored(&encode((2, 2), &frames)).expect("accepted");
    assert_eq!(reds(&decoded), [7; 4]);
    assert_eq!(decoded.warnings, []);
}

#[test]
fn a_huge_frame_on_a_small_screen_is_refused() {
    assert_eq!(
        reason(&input("gif-1x1-screen-121-megapixel-frame.gif")),
        Reason::TooManyPixels
    );
}

fn reds(decoded: &Decoded) -> Vec<u8> {
    decoded.pixels.pixels().map(|pixel| pixel.0[0]).collect()
}

fn frame((left, top): (u16, u16), (width, height): (u16, u16), colors: Vec<u8>) -> Frame<'static> {
    Frame {
        left,
        top,
        width,
        height,
        buffer: colors.into(),
        ..Frame::default()
    }
}

/// A GIF in whose palette each color is red, as strong as its number.
fn encode((width, height): (u16, u16), frames: &[Frame]) -> Vec<u8> {
    let palette: Vec<u8> = (0..=255).flat_map(|red| [red, 0, 0]).collect();
    let mut encoder = Encoder::new(Vec::new(), width, height, &palette).expect("a header");
    for frame in frames {
        encoder.write_frame(frame).expect("a frame");
    }
    encoder.into_inner().expect("a file")
}
