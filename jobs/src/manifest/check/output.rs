//! Checks of how a manifest describes the output of its model.

use super::{
    super::{Activation, AnswerPath, BoxesSpec, ClassesPerRow, Manifest, MaskSpec, Task},
    Mistakes,
};

/// Most tensors that make the columns of the boxes.
const FIELDS_MAX: usize = 16;

pub(super) fn output(manifest: &Manifest, found: &mut Mistakes) {
    let (task, output) = (manifest.task, &manifest.output);
    let only = |of: Task| format!("is for the task `{of}` only");
    found.unless(
        output.unit.is_none() || task == Task::Regress,
        "output.unit",
        &only(Task::Regress),
    );
    if let Some(detail) = output.path.as_ref().and_then(AnswerPath::mistake) {
        found.add("output.path", detail);
    }
    match &output.boxes {
        Some(boxes) if task == Task::Detect => {
            fields(boxes, found);
            if let Err(detail) = boxes.layout() {
                found.add("output.boxes.columns", detail);
            }
            if let Ok(layout) = boxes.layout() {
                found.unless(
                    layout.class_scores.is_some() || boxes.classes_per_row == ClassesPerRow::Best,
                    "output.boxes.classes_per_row",
                    "is for rows with `class_scores` only",
                );
            }
            found.unless(
                boxes.nms_iou.is_none_or(|iou| iou > 0.0 && iou <= 1.0),
                "output.boxes.nms_iou",
                "wants an overlap: above 0, 1 at most",
            );
        }
        Some(_) => found.add("output.boxes", only(Task::Detect)),
        None if task == Task::Detect => {
            found.add("output.boxes", "is missing: the task `detect` needs it");
        }
        None => {}
    }
    match output.mask {
        Some(_) if task != Task::Segment => found.add("output.mask", only(Task::Segment)),
        None if task == Task::Segment => {
            found.add("output.mask", "is missing: the task `segment` needs it");
        }
        _ => {}
    }
    let fits = match (task, output.activation) {
        (_, Activation::None)
        | (Task::Classify | Task::Embed | Task::Raw, _)
        | (Task::Regress, Activation::Sigmoid) => true,
        (Task::Segment, Activation::Sigmoid) => output.mask == Some(MaskSpec::Threshold),
        _ => false,
    };
    found.unless(
        fits,
        "output.activation",
        "does not go with this task: leave it out",
    );
    let labels = !matches!(task, Task::Embed | Task::Regress | Task::Raw);
    found.unless(
        labels || manifest.labels.is_none(),
        "labels",
        &format!("the task `{task}` names nothing"),
    );
}

fn fields(boxes: &BoxesSpec, found: &mut Mistakes) {
    for (index, field) in boxes.fields.iter().enumerate() {
        if let Some(detail) = field.mistake() {
            found.add(format!("output.boxes.fields[{index}]"), detail);
        }
    }
    let most = format!("wants {FIELDS_MAX} tensors at most");
    found.unless(
        boxes.fields.len() <= FIELDS_MAX,
        "output.boxes.fields",
        &most,
    );
    found.unless(
        boxes.fields.is_empty() || !boxes.transposed,
        "output.boxes.transposed",
        "does not go with `fields`: these are joined to rows of columns",
    );
}
