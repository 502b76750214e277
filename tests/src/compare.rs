//! Comparisons of numbers, with messages that say how far off they are.

/// The largest absolute difference.
pub fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len(), "different lengths");
    ours.iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most, next| if next > most || next.is_nan() { next } else { most })
}

/// Fails when any two numbers differ by more than `tolerance`.
pub fn assert_close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    let difference = difference(ours, theirs);
    assert!(difference <= tolerance, "{what}: off by {difference:e}, allowed {tolerance:e}");
}

/// The cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "different lengths");
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
