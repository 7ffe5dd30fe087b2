//! `output` of a manifest: the meaning of the model's output.

use serde::{Deserialize, Serialize};

use super::AnswerPath;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Where the output is in the answer of the model. Without a path the answer is the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<AnswerPath>,
    #[serde(default)]
    pub activation: Activation,
    /// For `regress`: the unit of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// For `detect`: the layout of the boxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boxes: Option<BoxesSpec>,
    /// For `segment`: the meaning of the numbers of a cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<MaskSpec>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    #[default]
    None,
    Softmax,
    Sigmoid,
}

/// Output with one row for each box, `[rows, columns]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxesSpec {
    /// The columns, in their order.
    #[serde(with = "super::columns")]
    pub columns: Vec<Column>,
    /// For an answer with several tensors: where these are at the path of the output. Side by side they are the columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<AnswerPath>,
    /// The output is `[columns, rows]`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transposed: bool,
    #[serde(default)]
    pub unit: BoxUnit,
    /// Of two boxes of a class that overlap by more (intersection over union), the one with the lower score is dropped.
    /// Without a value no box is dropped: the model did that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nms_iou: Option<f64>,
    #[serde(default, skip_serializing_if = "ClassesPerRow::is_default")]
    pub classes_per_row: ClassesPerRow,
}

/// The boxes that a row with `class_scores` makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassesPerRow {
    /// One, of the class with the highest score.
    #[default]
    Best,
    /// One for each class whose score reaches the threshold.
    All,
}

impl ClassesPerRow {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, derive_more::Display)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    #[display("x1")]
    X1,
    #[display("y1")]
    Y1,
    #[display("x2")]
    X2,
    #[display("y2")]
    Y2,
    /// Left edge.
    #[display("x")]
    X,
    /// Upper edge.
    #[display("y")]
    Y,
    #[display("center_x")]
    CenterX,
    #[display("center_y")]
    CenterY,
    #[display("width")]
    Width,
    #[display("height")]
    Height,
    #[display("score")]
    Score,
    /// Index of the class.
    #[display("class")]
    Class,
    /// All columns that the manifest does not name: a score for each class.
    #[display("class_scores")]
    ClassScores,
    /// A column that nothing reads.
    #[display("ignore")]
    Ignore,
}

/// Unit of the coordinates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxUnit {
    /// Pixels of the model's input.
    #[default]
    Pixels,
    /// Fractions of the input's sides, 0 to 1.
    Fractions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskSpec {
    /// `[classes, rows, columns]`: the best class of each cell.
    ClassScores,
    /// `[rows, columns]`: the index of the class of each cell.
    ClassIds,
    /// `[rows, columns]`: 1 where it exceeds the parameter `threshold`, 0 elsewhere.
    Threshold,
}

/// Indices of the columns in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoxLayout {
    pub sides: Sides,
    pub score: Option<usize>,
    pub class: Option<usize>,
    pub class_scores: Option<ClassScores>,
}

/// The columns with a score for each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassScores {
    /// The first of them.
    pub from: usize,
    /// The number of columns after the last of them.
    pub ignored_after: usize,
}

/// The four columns with the position of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Left, top, right, bottom.
    Corners([usize; 4]),
    /// Left, top, width, height.
    Sized([usize; 4]),
    /// Center, width, height.
    Centered([usize; 4]),
}

impl BoxesSpec {
    /// The indices of the columns.
    ///
    /// # Errors
    /// The column that is missing, or that occurs twice, in words.
    pub fn layout(&self) -> Result<BoxLayout, String> {
        use Column::{
            CenterX, CenterY, Class, ClassScores, Height, Score, Width, X, X1, X2, Y, Y1, Y2,
        };
        let at = |column: Column| self.columns.iter().position(|known| *known == column);
        for (index, column) in self.columns.iter().enumerate() {
            if *column != Column::Ignore && at(*column) != Some(index) {
                return Err(format!("has the column {column} twice"));
            }
        }
        let all = |[a, b, c, d]: [Column; 4]| Some([at(a)?, at(b)?, at(c)?, at(d)?]);
        let ways = [
            all([X1, Y1, X2, Y2]).map(Sides::Corners),
            all([X, Y, Width, Height]).map(Sides::Sized),
            all([CenterX, CenterY, Width, Height]).map(Sides::Centered),
        ];
        let mut ways = ways.into_iter().flatten();
        let (Some(sides), None) = (ways.next(), ways.next()) else {
            return Err("must have one of: x1, y1, x2, y2 · x, y, width, height · center_x, center_y, width, height".into());
        };
        let layout = BoxLayout {
            sides,
            score: at(Score),
            class: at(Class),
            class_scores: at(ClassScores).map(|from| super::ClassScores {
                from,
                ignored_after: self.columns.len() - from - 1,
            }),
        };
        if layout.score.is_none() && layout.class_scores.is_none() {
            return Err("must have score or class_scores".into());
        }
        if layout.class.is_some() && layout.class_scores.is_some() {
            return Err("must not have both class and class_scores".into());
        }
        let after = at(ClassScores).map_or(&[][..], |from| &self.columns[from + 1..]);
        if after.iter().any(|column| *column != Column::Ignore) {
            return Err(
                "must have class_scores last, or only ignore after it: class_scores takes all columns that are left"
                    .into(),
            );
        }
        Ok(layout)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{BoxesSpec, ClassScores, Sides};

    fn spec(columns: &[&str]) -> BoxesSpec {
        serde_json::from_value(json!({"columns": columns})).expect("spec")
    }

    #[test]
    fn the_columns_say_where_a_box_and_its_score_are() {
        let layout = spec(&["score", "x1", "y1", "x2", "y2", "class"]).layout();
        let layout = layout.expect("complete");
        assert_eq!(layout.sides, Sides::Corners([1, 2, 3, 4]));
        assert_eq!((layout.score, layout.class), (Some(0), Some(5)));
        let yolo = spec(&["center_x", "center_y", "width", "height", "class_scores"]).layout();
        let yolo = yolo.expect("complete");
        assert_eq!(yolo.sides, Sides::Centered([0, 1, 2, 3]));
        let scores = |ignored_after| ClassScores {
            from: 4,
            ignored_after,
        };
        assert_eq!(yolo.class_scores, Some(scores(0)));
        let with_masks = ["center_x", "center_y", "width", "height", "class_scores"];
        let with_masks = spec(&[&with_masks[..], &["ignore*32"]].concat()).layout();
        let with_masks = with_masks.expect("complete");
        assert_eq!(with_masks.class_scores, Some(scores(32)));
    }

    #[test]
    fn an_ignored_column_may_be_anywhere_and_moves_those_behind_it() {
        let layout = spec(&["ignore", "x1", "y1", "ignore*2", "x2", "y2", "score"]).layout();
        let layout = layout.expect("complete");
        assert_eq!(layout.sides, Sides::Corners([1, 2, 5, 6]));
        assert_eq!(layout.score, Some(7));
    }

    #[test]
    fn columns_that_do_not_make_a_box_are_refused() {
        for (columns, why) in [
            (vec!["x1", "y1", "x2", "score"], "must have one of"),
            (vec!["x", "y", "width", "height"], "must have score"),
            (
                vec!["x", "y", "center_x", "center_y", "width", "height", "score"],
                "must have one of",
            ),
            (
                vec!["x", "y", "width", "height", "x"],
                "has the column x twice",
            ),
            (
                vec!["x", "y", "class_scores", "width", "height"],
                "class_scores last",
            ),
            (
                vec!["x", "y", "width", "height", "class", "class_scores"],
                "both class",
            ),
            (vec![], "must have one of"),
        ] {
            let refused = spec(&columns).layout().expect_err("incomplete");
            assert!(refused.contains(why), "{columns:?}: {refused}");
        }
    }
}
