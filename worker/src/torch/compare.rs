//! Comparing two answers of a model for one image.

/// Whether all values differ by at most `difference_max` times the largest expected value.
pub fn are_alike(values: &[f32], expected: &[f32], difference_max: f32) -> bool {
    let allowed = allowed(expected, difference_max);
    let mut pairs = values.iter().zip(expected);
    values.len() == expected.len()
        && pairs.all(|(&value, &expected)| is_alike(value, expected, allowed))
}

/// As [`are_alike`], but a few values may differ, or the values may be in another order. Rounding does this to a model that
/// chooses: the class of a cell, or the order of boxes.
pub fn are_nearly_all_alike(values: &[f32], expected: &[f32], difference_max: f32) -> bool {
    let allowed = allowed(expected, difference_max);
    let pairs = values.iter().zip(expected);
    let others = pairs.filter(|&(&value, &expected)| !is_alike(value, expected, allowed));
    if values.len() == expected.len() && others.count() <= values.len() / 50 {
        return true;
    }
    let sorted = |values: &[f32]| {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        sorted
    };
    are_alike(&sorted(values), &sorted(expected), difference_max)
}

fn allowed(expected: &[f32], difference_max: f32) -> f32 {
    let finite = expected.iter().map(|one| one.abs());
    let finite = finite.filter(|one| one.is_finite());
    difference_max * finite.fold(0.0, f32::max)
}

/// A model that gives NaN or infinity gives them again.
fn is_alike(value: f32, expected: f32, allowed: f32) -> bool {
    (value - expected).abs() <= allowed
        || value.to_bits() == expected.to_bits()
        || (value.is_nan() && expected.is_nan())
}

#[cfg(test)]
mod tests {
    use super::{are_alike, are_nearly_all_alike};

    #[test]
    fn another_value_is_not_alike() {
        assert!(are_alike(&[1.0, 0.1], &[1.0005, 0.1], 1e-3));
        assert!(!are_alike(&[1.0, 0.1], &[1.0, 0.102], 1e-3));
        assert!(!are_alike(&[1.0], &[1.0, 0.1], 1e-3));
        assert!(!are_alike(&[f32::NAN], &[1.0], 1e-3));
        assert!(!are_alike(&[1.0], &[f32::INFINITY], 1e-3));
    }

    #[test]
    fn values_that_are_no_number_are_alike_where_both_answers_have_them() {
        let values = [f32::NAN, f32::INFINITY, 1.0];
        assert!(are_alike(&values, &values, 1e-3));
        assert!(!are_alike(&[f32::NAN, f32::INFINITY, 1.1], &values, 1e-3));
    }

    #[test]
    fn a_few_other_choices_or_another_order_are_nearly_alike() {
        let ids = [1.0; 100];
        let mut others = ids;
        others[7] = 0.0;
        assert!(are_nearly_all_alike(&others, &ids, 1e-3));
        others[8..11].fill(0.0);
        assert!(!are_nearly_all_alike(&others, &ids, 1e-3));
        assert!(are_nearly_all_alike(&[3.0, 1.0], &[1.0, 3.0], 1e-3));
        assert!(!are_nearly_all_alike(&[3.0], &[1.0, 3.0], 1e-3));
    }
}
