//! `input.resize` of a manifest: how an image is brought to the size of the model's input.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        Error, MapAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The center of the image, cropped to the input's aspect ratio and to `crop_ratio` of the shorter side.
    CenterCrop,
    /// The whole image, its aspect ratio changed.
    Stretch,
    /// The whole image, its aspect ratio kept, with bars of `pad_color`.
    Letterbox,
    /// The whole image, its aspect ratio kept; then the center of the resized image.
    #[serde(untagged)]
    ShorterSide(ShorterSide),
}

/// torchvision's `Resize(shorter_side)` and `CenterCrop(crop)` over an image of Pillow, with their whole-pixel rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShorterSide {
    /// The shorter side of the resized image, in pixels.
    pub shorter_side: u32,
    /// The side of the square that is cut out, in pixels. Black pixels surround a smaller image.
    pub crop: u32,
    #[serde(default)]
    pub interpolation: Interpolation,
}

/// The filters of Pillow, by the names that torchvision gives them. All but `nearest` are antialiased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    Nearest,
    Box,
    #[default]
    Bilinear,
    Hamming,
    Bicubic,
    Lanczos,
}

/// The forms of `resize` that are a word.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    CenterCrop,
    Stretch,
    Letterbox,
}

/// By hand: the messages of serde for an untagged variant do not say what is wrong.
impl<'de> Deserialize<'de> for Resize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrObject)
    }
}

struct WordOrObject;

impl<'de> Visitor<'de> for WordOrObject {
    type Value = Resize;

    fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(
            "`center_crop`, `stretch`, `letterbox`, or an object with `shorter_side` and `crop`",
        )
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Resize, E> {
        let known = Word::deserialize(StrDeserializer::<E>::new(word));
        let known = known.map_err(|_| E::invalid_value(Unexpected::Str(word), &self))?;
        Ok(match known {
            Word::CenterCrop => Resize::CenterCrop,
            Word::Stretch => Resize::Stretch,
            Word::Letterbox => Resize::Letterbox,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Resize, A::Error> {
        ShorterSide::deserialize(MapAccessDeserializer::new(object)).map(Resize::ShorterSide)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Interpolation, Resize, ShorterSide};

    fn read(value: Value) -> Result<Resize, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_resize_is_a_word_or_an_object_and_is_stored_as_it_was_read() {
        let rule = ShorterSide {
            shorter_side: 256,
            crop: 224,
            interpolation: Interpolation::Bilinear,
        };
        let object = json!({"shorter_side": 256, "crop": 224, "interpolation": "bilinear"});
        for (value, resize) in [
            (json!("stretch"), Resize::Stretch),
            (object, Resize::ShorterSide(rule)),
        ] {
            assert_eq!(read(value.clone()), Ok(resize));
            assert_eq!(serde_json::to_value(resize).expect("JSON"), value);
        }
        let short = json!({"shorter_side": 256, "crop": 224});
        assert_eq!(read(short), Ok(Resize::ShorterSide(rule)));
    }

    #[test]
    fn a_wrong_resize_is_refused_with_what_it_wants() {
        for (value, why) in [
            (json!("centre_crop"), "`letterbox`, or an object"),
            (json!(5), "`letterbox`, or an object"),
            (json!({"shorter_side": 256}), "missing field `crop`"),
            (
                json!({"shorter_side": 256, "crop": 224, "size": 1}),
                "unknown field `size`",
            ),
            (
                json!({"shorter_side": "256", "crop": 224}),
                "invalid type: string",
            ),
        ] {
            let refused = read(value.clone()).expect_err("refused");
            assert!(refused.contains(why), "{value}: {refused}");
        }
    }
}
