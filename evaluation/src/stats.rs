//! Medians and percentiles.

/// The `percent`th percentile (0 to 100) of the values, between neighbours in proportion; `None`
/// of no values. The values need not be sorted and may not be NaN.
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = percent.clamp(0.0, 100.0) / 100.0 * last as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    // Of equal neighbours, infinite ones have no difference.
    Some(if below == above { below } else { below + (above - below) * place.fract() })
}

/// The median of the values; `None` of no values.
pub fn median(values: &[f64]) -> Option<f64> {
    percentile(values, 50.0)
}

/// The mean of the values; `None` of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_neighbours() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(percentile(&[10.0, 20.0, 30.0], 0.0), Some(10.0));
        assert_eq!(percentile(&[10.0, 20.0, 30.0], 100.0), Some(30.0));
        assert_eq!(percentile(&[10.0, 20.0, 30.0], 75.0), Some(25.0));
        assert_eq!(median(&[f64::INFINITY]), Some(f64::INFINITY));
        assert_eq!(median(&[1.0, f64::INFINITY]), Some(f64::INFINITY));
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
    }
}
