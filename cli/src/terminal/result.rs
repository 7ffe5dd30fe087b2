//! The prediction of a job: one line of it, and the whole of it.

use wire::{
    BoundingBox, Classification, Detection, Embedding, Label, MaskClass, RawOutput, Regression,
    Segmentation, StoredResult, TaskResult,
};

use super::{aligned, bare, decimal, table};

/// Characters of a full bar.
const BAR_WIDTH: f64 = 20.0;
/// Items of a list on one line.
const ITEMS_SHOWN: usize = 5;
/// Numbers of an embedding or a raw output.
const NUMBERS_SHOWN: usize = 8;

/// The prediction in a few words.
pub(crate) fn summary(result: &TaskResult) -> String {
    match result {
        TaskResult::Classify(Classification { labels }) => {
            let labels = labels.iter().map(|label| {
                let name = name(label.label.as_deref(), label.index);
                format!("{name} {}", decimal(label.score))
            });
            labels.collect::<Vec<_>>().join(", ")
        }
        TaskResult::Detect(Detection { boxes }) => {
            let found = boxes.iter().map(|one| {
                let name = name(one.label.as_deref(), one.index);
                format!("{name} {}", decimal(one.score))
            });
            let count = boxes.len();
            let noun = if count == 1 { "box" } else { "boxes" };
            listed(&format!("{count} {noun}"), found, ITEMS_SHOWN)
        }
        TaskResult::Segment(mask) => {
            let pixels = pixels(mask);
            let classes = mask.classes.iter().map(|class| {
                let name = name(class.label.as_deref(), class.index);
                format!("{name} {}", share(class, pixels))
            });
            let size = format!("mask of {} × {} px", mask.width, mask.height);
            let mask_url = &mask.mask_url;
            format!("{}; {mask_url}", listed(&size, classes, ITEMS_SHOWN))
        }
        TaskResult::Embed(Embedding { embedding, dim }) => {
            let first = embedding.iter().map(|number| decimal(*number));
            listed(&format!("embedding of {dim} numbers"), first, ITEMS_SHOWN)
        }
        TaskResult::Regress(regression) => value(regression),
        TaskResult::Raw(RawOutput { shape, data }) => {
            let first = data.iter().map(|number| decimal(*number));
            listed(
                &format!("output of shape {}", by(shape)),
                first,
                ITEMS_SHOWN,
            )
        }
        TaskResult::Stored(StoredResult { url, bytes }) => format!("{bytes} bytes at {url}"),
        TaskResult::Other(json) => bare(json),
    }
}

/// The prediction as a person reads it: one or more lines.
pub(crate) fn block(result: &TaskResult) -> String {
    match result {
        TaskResult::Classify(Classification { labels }) => labels_block(labels),
        TaskResult::Detect(Detection { boxes }) => boxes_block(boxes),
        TaskResult::Segment(mask) => mask_block(mask),
        TaskResult::Embed(Embedding { embedding, dim }) => {
            format!("embedding of {dim} numbers\n{}", numbers(embedding))
        }
        TaskResult::Regress(regression) => value(regression),
        TaskResult::Raw(RawOutput { shape, data }) => {
            format!("output of shape {}\n{}", by(shape), numbers(data))
        }
        TaskResult::Stored(_) | TaskResult::Other(_) => summary(result),
    }
}

fn labels_block(labels: &[Label]) -> String {
    let rows = labels.iter().map(|label| {
        let name = name(label.label.as_deref(), label.index);
        vec![decimal(label.score), bar(label.score), name]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return "no labels".into();
    }
    aligned(&rows)
}

fn boxes_block(boxes: &[BoundingBox]) -> String {
    let rows = boxes.iter().map(|one| {
        let sides = [one.x, one.y, one.width, one.height].map(|side| format!("{side:.1}"));
        let name = name(one.label.as_deref(), one.index);
        [vec![name, decimal(one.score)], sides.to_vec()].concat()
    });
    let heads = ["LABEL", "SCORE", "X", "Y", "WIDTH", "HEIGHT"];
    table(&heads, rows.collect(), "no boxes")
}

fn mask_block(mask: &Segmentation) -> String {
    let pixels = pixels(mask);
    let rows = mask.classes.iter().map(|class| {
        let name = name(class.label.as_deref(), class.index);
        vec![name, class.pixels.to_string(), share(class, pixels)]
    });
    let classes = table(&["CLASS", "PIXELS", "SHARE"], rows.collect(), "no classes");
    let (width, height, url) = (mask.width, mask.height, &mask.mask_url);
    format!("mask of {width} × {height} px at {url}\n{classes}")
}

/// `█████`: as long as the score, which lies between 0 and 1 for most models.
fn bar(score: f64) -> String {
    "█".repeat((score.clamp(0.0, 1.0) * BAR_WIDTH).round() as usize)
}

/// The label, or the index if the model names no labels.
fn name(label: Option<&str>, index: u32) -> String {
    label.map_or_else(|| format!("#{index}"), ToOwned::to_owned)
}

fn pixels(mask: &Segmentation) -> f64 {
    f64::from(mask.width) * f64::from(mask.height)
}

fn share(class: &MaskClass, pixels: f64) -> String {
    format!("{:.1} %", class.pixels as f64 / pixels.max(1.0) * 100.0)
}

fn value(regression: &Regression) -> String {
    match &regression.unit {
        Some(unit) => format!("{} {unit}", regression.value),
        None => regression.value.to_string(),
    }
}

/// `2 × 3`
fn by(shape: &[u64]) -> String {
    let sides: Vec<_> = shape.iter().map(u64::to_string).collect();
    sides.join(" × ")
}

/// The first numbers; `…` stands for the others.
fn numbers(all: &[f64]) -> String {
    let mut shown: Vec<_> = all
        .iter()
        .take(NUMBERS_SHOWN)
        .map(|n| decimal(*n))
        .collect();
    if all.len() > NUMBERS_SHOWN {
        shown.push("…".into());
    }
    shown.join(" ")
}

/// `head: a, b, …`: the first items; `…` stands for the others.
fn listed(head: &str, items: impl ExactSizeIterator<Item = String>, items_max: usize) -> String {
    let more = items.len() > items_max;
    let mut shown: Vec<_> = items.take(items_max).collect();
    if shown.is_empty() {
        return head.to_owned();
    }
    if more {
        shown.push("…".into());
    }
    format!("{head}: {}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{block, summary};
    use serde_json::{Value, json};
    use wire::TaskResult;

    fn of(result: Value) -> TaskResult {
        serde_json::from_value(result).expect("a result")
    }

    #[test]
    fn labels_have_scores_and_bars() {
        let result = of(json!({"labels": [
            {"label": "tabby", "index": 281, "score": 0.8312}, {"label": null, "index": 7, "score": 0.01}]}));
        assert_eq!(summary(&result), "tabby 0.831, #7 0.010");
        assert_eq!(
            block(&result),
            "0.831  █████████████████  tabby\n0.010                     #7"
        );
    }

    #[test]
    fn boxes_are_a_table() {
        let result = of(json!({"boxes": [
            {"label": "cat", "index": 0, "score": 0.9, "x": 1.0, "y": 20.25, "width": 300.0, "height": 4.0}]}));
        assert_eq!(summary(&result), "1 box: cat 0.900");
        assert_eq!(
            block(&result),
            "LABEL  SCORE  X    Y     WIDTH  HEIGHT\ncat    0.900  1.0  20.2  300.0  4.0"
        );
        assert_eq!(summary(&of(json!({"boxes": []}))), "0 boxes");
        assert_eq!(block(&of(json!({"boxes": []}))), "no boxes");
    }

    #[test]
    fn a_mask_has_a_size_classes_and_a_place() {
        let result = of(
            json!({"mask_url": "/v1/jobs/job_1/result", "width": 4, "height": 2, "classes": [
            {"label": "sky", "index": 2, "pixels": 6}, {"label": "sea", "index": 3, "pixels": 2}]}),
        );
        assert_eq!(
            summary(&result),
            "mask of 4 × 2 px: sky 75.0 %, sea 25.0 %; /v1/jobs/job_1/result"
        );
        assert_eq!(
            block(&result),
            "mask of 4 × 2 px at /v1/jobs/job_1/result\n\
             CLASS  PIXELS  SHARE\nsky    6       75.0 %\nsea    2       25.0 %"
        );
    }

    #[test]
    fn many_numbers_are_cut_short() {
        let embedding: Vec<f64> = (0..10).map(f64::from).collect();
        let result = of(json!({"embedding": embedding, "dim": 10}));
        assert_eq!(
            summary(&result),
            "embedding of 10 numbers: 0.000, 1.000, 2.000, 3.000, 4.000, …"
        );
        assert_eq!(
            block(&result),
            "embedding of 10 numbers\n0.000 1.000 2.000 3.000 4.000 5.000 6.000 7.000 …"
        );
        let result = of(json!({"shape": [1, 2], "data": [0.5, -2.0]}));
        assert_eq!(summary(&result), "output of shape 1 × 2: 0.500, -2.000");
        assert_eq!(block(&result), "output of shape 1 × 2\n0.500 -2.000");
    }

    #[test]
    fn values_have_units_and_large_results_a_place() {
        assert_eq!(
            summary(&of(json!({"value": 36.6, "unit": "°C"}))),
            "36.6 °C"
        );
        assert_eq!(block(&of(json!({"value": 0.1, "unit": null}))), "0.1");
        assert_eq!(
            summary(&of(json!({"url": "/r", "bytes": 70_000}))),
            "70000 bytes at /r"
        );
        assert_eq!(block(&of(json!({"answer": "cat"}))), r#"{"answer":"cat"}"#);
    }
}
