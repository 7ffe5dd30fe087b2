use jobs::manifest::{
    BoxLayout, BoxUnit, BoxesSpec, ClassScores, ClassesPerRow, Manifest, OutputSpec, Sides,
};
use serde_json::{Value, json};

use super::score;
use crate::{pipeline::Placement, torch::Output};

/// Most detections of an image that are compared with each other. With `classes_per_row: all` a threshold of 0 makes one
/// for each row and class.
const CANDIDATES_MAX: usize = 30_000;

/// A detection, in pixels of the input of the model.
#[derive(Debug, Clone, Copy)]
struct Detection {
    score: f32,
    row: usize,
    class: usize,
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

/// `{"boxes": [{"label", "index", "score", "x", "y", "width", "height"}]}` in pixels of the upright image, the best
/// first: those with at least `threshold`, at most `max_boxes`. `x`, `y` is the upper left corner.
pub(super) fn detect(
    output: &Output,
    manifest: &Manifest,
    labels: &[String],
    placement: &Placement,
    params: &Value,
) -> Value {
    let threshold = params["threshold"].as_f64().unwrap_or(0.25) as f32;
    let boxes_max = params["max_boxes"].as_u64().unwrap_or(100) as usize;
    let spec = &manifest.output.boxes;
    let Some((spec, layout)) = spec
        .as_ref()
        .and_then(|spec| Some((spec, spec.layout().ok()?)))
    else {
        return json!({"boxes": []}); // `check` refuses such a manifest
    };
    let units = match spec.unit {
        BoxUnit::Pixels => [1.0, 1.0],
        BoxUnit::Fractions => [manifest.input.width, manifest.input.height].map(f64::from),
    };
    let rows = Rows::of(output, spec);
    let mut detections = Vec::new();
    for row in 0..rows.count {
        let sides = || rows.sides(row, &layout, units);
        rows.each_score(row, &layout, spec.classes_per_row, |class, score| {
            if score >= threshold {
                let [left, top, right, bottom] = sides();
                detections.push(Detection {
                    score,
                    row,
                    class,
                    left,
                    top,
                    right,
                    bottom,
                });
            }
        });
    }
    keep_the_best(&mut detections);
    let mut boxes = Vec::new();
    let mut statements: Vec<Detection> = Vec::new();
    for found in detections {
        if boxes.len() == boxes_max {
            break;
        }
        let overlaps_too_much = |other: &Detection| {
            other.class == found.class
                && spec
                    .nms_iou
                    .is_some_and(|iou| intersection_over_union(other, &found) > iou)
        };
        if statements.iter().any(overlaps_too_much) {
            continue;
        }
        if let Some([x, y, width, height]) = clip_to_image(&found, placement) {
            statements.push(found);
            boxes.push(json!({
                "label": labels.get(found.class), "index": found.class, "score": score(found.score),
                "x": x, "y": y, "width": width, "height": height,
            }));
        }
    }
    json!({ "boxes": boxes })
}

pub(super) fn check(spec: &OutputSpec, labels: &[String], shape: &[usize]) -> Result<(), String> {
    let spec = spec
        .boxes
        .as_ref()
        .ok_or("the manifest has no output.boxes")?;
    let layout = spec.layout()?;
    let [rows, columns] = *shape else {
        return Err(format!("`detect` takes rows of columns, not {shape:?}"));
    };
    let columns = if spec.transposed { rows } else { columns };
    let named = spec.columns.len();
    if columns < named || (columns > named && layout.class_scores.is_none()) {
        return Err(format!(
            "the manifest names {named} columns, and the output has {columns}"
        ));
    }
    let classes = |scores: ClassScores| columns - scores.from - scores.ignored_after;
    match layout.class_scores.map(classes) {
        Some(classes) if !labels.is_empty() && labels.len() != classes => Err(format!(
            "{} labels for {classes} class scores",
            labels.len()
        )),
        _ => Ok(()),
    }
}

struct Rows<'a> {
    values: &'a [f32],
    count: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Rows<'a> {
    fn of(output: &'a Output, spec: &BoxesSpec) -> Self {
        let (first, second) = (output.shape[0], output.shape[1]);
        let (count, columns) = if spec.transposed {
            (second, first)
        } else {
            (first, second)
        };
        Self {
            values: &output.values,
            count,
            columns,
            transposed: spec.transposed,
        }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        if self.transposed {
            self.values[column * self.count + row]
        } else {
            self.values[row * self.columns + column]
        }
    }

    /// Calls `each` with the class and the score of each detection of a row.
    fn each_score(
        &self,
        row: usize,
        layout: &BoxLayout,
        per_row: ClassesPerRow,
        mut each: impl FnMut(usize, f32),
    ) {
        let of_box = layout.score.map_or(1.0, |column| self.at(row, column));
        match (layout.class, layout.class_scores) {
            (_, Some(scores)) => {
                let columns = scores.from..self.columns - scores.ignored_after;
                let scores = columns.map(|column| self.at(row, column)).enumerate();
                match per_row {
                    ClassesPerRow::Best => {
                        let best = scores.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
                        let (class, score) = best.unwrap_or((0, 0.0));
                        each(class, score * of_box);
                    }
                    ClassesPerRow::All => {
                        for (class, score) in scores {
                            each(class, score * of_box);
                        }
                    }
                }
            }
            (Some(class), None) => each(self.at(row, class).max(0.0).round() as usize, of_box),
            (None, None) => each(0, of_box),
        }
    }

    /// Left, top, right and bottom, in pixels of the input.
    fn sides(&self, row: usize, layout: &BoxLayout, [across, down]: [f64; 2]) -> [f64; 4] {
        let four = |columns: [usize; 4]| columns.map(|column| f64::from(self.at(row, column)));
        let [left, top, right, bottom] = match layout.sides {
            Sides::Corners(columns) => four(columns),
            Sides::Sized(columns) => {
                let [x, y, width, height] = four(columns);
                [x, y, x + width, y + height]
            }
            Sides::Centered(columns) => {
                let [x, y, width, height] = four(columns);
                [
                    x - width / 2.0,
                    y - height / 2.0,
                    x + width / 2.0,
                    y + height / 2.0,
                ]
            }
        };
        [left * across, top * down, right * across, bottom * down]
    }
}

/// Sorts detections: the best first, equal scores in the order of their rows and classes. Keeps [`CANDIDATES_MAX`].
fn keep_the_best(detections: &mut Vec<Detection>) {
    let order = |a: &Detection, b: &Detection| {
        let by_score = b.score.total_cmp(&a.score);
        by_score.then((a.row, a.class).cmp(&(b.row, b.class)))
    };
    if detections.len() > CANDIDATES_MAX {
        detections.select_nth_unstable_by(CANDIDATES_MAX, order);
        detections.truncate(CANDIDATES_MAX);
    }
    detections.sort_unstable_by(order);
}

fn intersection_over_union(a: &Detection, b: &Detection) -> f64 {
    let side = |low: f64, high: f64| (high - low).max(0.0);
    let area = |one: &Detection| side(one.left, one.right) * side(one.top, one.bottom);
    let shared = side(a.left.max(b.left), a.right.min(b.right))
        * side(a.top.max(b.top), a.bottom.min(b.bottom));
    let union = area(a) + area(b) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

/// `[x, y, width, height]` clipped to the upright image, rounded to a hundredth of a pixel; `None` if it is outside.
fn clip_to_image(found: &Detection, placement: &Placement) -> Option<[f64; 4]> {
    let sides = [placement.image_width, placement.image_height].map(f64::from);
    let point = |x: f64, y: f64| {
        let [x, y] = placement.to_image([x, y]);
        let inside = |at: f64, side: f64| (at.clamp(0.0, side) * 100.0).round() / 100.0;
        [inside(x, sides[0]), inside(y, sides[1])]
    };
    let [left, top] = point(found.left, found.top);
    let [right, bottom] = point(found.right, found.bottom);
    let size = |low: f64, high: f64| ((high - low) * 100.0).round() / 100.0;
    let (width, height) = (size(left, right), size(top, bottom));
    (width > 0.0 && height > 0.0).then_some([left, top, width, height])
}

#[cfg(test)]
mod tests;
