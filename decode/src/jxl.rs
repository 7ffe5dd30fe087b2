//! JPEG XL by jxl-oxide, a decoder in safe Rust.

use image::RgbImage;
use jxl_bitstream::{ContainerParser, ParseEvent};
use jxl_oxide::{
    AllocTracker, EnumColourEncoding, ExtraChannelType, InitializeResult, JxlImage, PixelFormat,
    RenderingIntent,
};

use crate::{Color, Header, Reason, Refusal, Warning, color, on_white};

/// Most frames before the first one that is shown, such as the layers of a drawing.
const FRAMES_MAX: usize = 256;

/// Bytes that are given to the decoder at first. Later it gets more at once, so that a long color profile is not read too often.
const FIRST_BYTES: usize = 64 << 10;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Decodes the first frame, upright.
///
/// # Errors
/// [`Reason::TooManyPixels`] or [`Reason::Undecodable`].
pub(crate) fn decode(
    bytes: &[u8],
    header: &Header,
    wanted: Color,
    warnings: &mut Vec<Warning>,
) -> Result<RgbImage, Refusal> {
    let codestream = codestream(bytes).map_err(refusal)?;
    // No file takes more memory than its header told.
    let limit = usize::try_from(header.decode_bytes(1.0)).unwrap_or(usize::MAX);
    let tracker = AllocTracker::with_limit(limit);
    let mut image = load_first_frame(&codestream, tracker).map_err(refusal)?;
    drop(codestream);
    let is_gray = image.image_header().metadata.grayscale();
    // Everything but pixels that are stored as the profile says: the decoder knows the colors, and converts by itself.
    let is_stored_by_profile =
        image.original_icc().is_some() && !image.image_header().metadata.xyb_encoded;
    if wanted == Color::Srgb && !is_gray && !is_stored_by_profile {
        image.request_color_encoding(EnumColourEncoding::srgb(RenderingIntent::Perceptual));
    }
    let mut rgb = render(&image, header).map_err(refusal)?;
    if let Some(profile) = image.original_icc()
        && wanted == Color::Srgb
        && !is_gray
        && is_stored_by_profile
    {
        color::convert_by_profile(&mut rgb, profile, warnings);
    }
    Ok(rgb)
}

/// The frames without the container around them. The decoder would unpack compressed metadata, without any limit.
fn codestream(bytes: &[u8]) -> Result<Vec<u8>, Cause> {
    let mut codestream = Vec::with_capacity(bytes.len());
    for event in ContainerParser::new().feed_bytes(bytes) {
        if let ParseEvent::Codestream(part) = event? {
            codestream.extend_from_slice(part);
        }
    }
    Ok(codestream)
}

/// # Errors
/// The first frame is cut short or broken, or takes too much memory.
fn load_first_frame(codestream: &[u8], tracker: AllocTracker) -> Result<JxlImage, Cause> {
    const CUT: &str = "the file ends within the first frame";
    let mut unread = codestream;
    let mut feed = |length: usize| {
        let (fed, rest) = unread.split_at(length.min(unread.len()));
        unread = rest;
        (!fed.is_empty()).then_some(fed).ok_or(CUT)
    };
    let mut length = FIRST_BYTES;
    let builder = JxlImage::builder().alloc_tracker(tracker);
    let mut uninitialized = builder.build_uninit();
    let mut image = loop {
        uninitialized.feed_bytes(feed(length)?)?;
        match uninitialized.try_init()? {
            InitializeResult::NeedMoreData(image) => uninitialized = image,
            InitializeResult::Initialized(image) => break image,
        }
        length *= 2;
    };
    while image.num_loaded_keyframes() == 0 {
        if image.is_loading_done() || image.num_loaded_frames() > FRAMES_MAX {
            return Err("no frame is shown, or too many frames make the first one".into());
        }
        image.feed_bytes(feed(FIRST_BYTES)?)?;
    }
    Ok(image)
}

fn render(image: &JxlImage, header: &Header) -> Result<RgbImage, Cause> {
    let channels = match image.pixel_format() {
        PixelFormat::Cmyk | PixelFormat::Cmyka => return Err("the image is in CMYK".into()),
        format => format.channels(),
    };
    let is_premultiplied = image.image_header().metadata.ec_info.iter().any(|channel| {
        matches!(
            channel.ty,
            ExtraChannelType::Alpha {
                alpha_associated: true
            }
        )
    });
    let frame = image.render_frame(0)?;
    let mut stream = frame.stream();
    if (stream.width(), stream.height()) != (header.width, header.height) {
        return Err("the image is not of the size that its header says".into());
    }
    let (width, height) = (header.width as usize, header.height as usize);
    let mut row = vec![0_u8; width * channels];
    let mut rgb = Vec::with_capacity(width * height * 3);
    for _ in 0..height {
        if stream.write_to_buffer(&mut row) < row.len() {
            return Err("rows are missing".into());
        }
        on_white::add_row(&row, channels, is_premultiplied, &mut rgb);
    }
    let pixels = RgbImage::from_raw(header.width, header.height, rgb);
    pixels.ok_or_else(|| "the image has no pixels".into())
}

fn refusal(cause: Cause) -> Refusal {
    // The decoder has many types of errors, and each may hold this one.
    let mut inner: Option<&(dyn std::error::Error + 'static)> = Some(&*cause);
    while let Some(error) = inner {
        if error.is::<jxl_grid::OutOfMemory>() {
            return Refusal::new(
                Reason::TooManyPixels,
                "decoding the image would take too much memory",
            )
            .caused_by(cause);
        }
        inner = error.source();
    }
    Refusal::undecodable("the image is damaged, cut short or of an unusual kind").caused_by(cause)
}
