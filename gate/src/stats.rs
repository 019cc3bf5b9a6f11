//! Plain statistics, each defined once for the whole product. Nothing here is approximate.

/// The `q`-quantile of an ascending slice by nearest rank: the value at rank `ceil(q * n)`, at least 1.
///
/// The only definition of a quantile in the product. None for an empty slice or a `q` outside 0..=1.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    rank(sorted.len() as u64, q).and_then(|rank| sorted.get(usize::try_from(rank - 1).ok()?).copied())
}

/// The nearest rank (1-based) of the `q`-quantile among `count` values: `ceil(q * count)`, within 1..=count.
///
/// For exact histograms: walk the sorted counts up to this rank. None if there is no value or no such `q`.
pub fn rank(count: u64, q: f64) -> Option<u64> {
    if count == 0 || !(0.0..=1.0).contains(&q) {
        return None;
    }
    // q * n may land a hair above a whole number (0.07 * 100 = 7.000000000000001): that hair is no new rank.
    let exact = q * count as f64;
    let near = exact.round();
    let up = if (exact - near).abs() <= near * 1e-12 { near } else { exact.ceil() };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0..=count by the checks above"
    )]
    Some((up as u64).clamp(1, count))
}

/// The arithmetic mean; none for an empty slice.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() { None } else { Some(values.iter().sum::<f64>() / values.len() as f64) }
}

/// The sample standard deviation (divisor n - 1); none below two values.
pub fn sample_sd(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// The median as the middle of the centre: the mean of the two middle values if their number is even.
///
/// This is a location of pairs, not a quantile of samples; for those see [`quantile`]. None if empty.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(half.checked_sub(1)?).map(|lower| f64::midpoint(*lower, upper))
}

/// The median absolute deviation from the median, unscaled; none for an empty slice.
pub fn mad(values: &[f64]) -> Option<f64> {
    let centre = median(values)?;
    let distances: Vec<f64> = values.iter().map(|v| (v - centre).abs()).collect();
    median(&distances)
}

/// What [`mad`] is multiplied by to estimate a normal standard deviation: 1 / quantile(3/4) of the normal.
pub const MAD_TO_SD: f64 = 1.4826;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nearest_rank_by_hand() {
        let five = [15.0, 20.0, 35.0, 40.0, 50.0];
        for (q, want) in
            [(0.0, 15.0), (0.05, 15.0), (0.3, 20.0), (0.4, 20.0), (0.5, 35.0), (0.99, 50.0), (1.0, 50.0)]
        {
            assert_eq!(quantile(&five, q), Some(want), "q = {q}");
        }
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.07), Some(7.0));
        assert_eq!(quantile(&hundred, 0.99), Some(99.0));
        assert_eq!(rank(1000, 0.999), Some(999));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&five, f64::NAN), None);
        assert_eq!(quantile(&five, 1.1), None);
    }

    #[test]
    fn centres_by_hand() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 8.0]), Some(3.0));
        assert_eq!(mad(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]), Some(1.0));
        assert_eq!(sample_sd(&[1.0, 3.0]), Some(2.0f64.sqrt()));
        assert_eq!((mean(&[]), median(&[]), mad(&[]), sample_sd(&[1.0])), (None, None, None, None));
    }

    proptest! {
        #[test]
        fn a_quantile_is_one_of_the_values(mut values in prop::collection::vec(-1e9f64..1e9, 1..200), q in 0.0f64..=1.0) {
            values.sort_by(f64::total_cmp);
            let got = quantile(&values, q).unwrap();
            let at_most = values.iter().filter(|v| **v <= got).count() as f64;
            prop_assert!(values.contains(&got));
            prop_assert!(at_most / values.len() as f64 >= q - 1e-12);
        }
    }
}
