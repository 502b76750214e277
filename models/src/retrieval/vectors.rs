//! One text's vectors, and how well two texts match.

/// Unit vectors, one for each token that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    width: usize,
    data: Vec<f32>,
}

impl Vectors {
    /// Rows of `width` floats in one slice; floats that fill no row are dropped.
    #[must_use]
    pub fn new(width: usize, mut data: Vec<f32>) -> Self {
        let whole = data.len().checked_div(width).unwrap_or(0) * width;
        data.truncate(whole);
        Self { width, data }
    }

    /// Floats in one vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of vectors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() / self.width.max(1)
    }

    /// Whether there is none, as of a document of nothing but punctuation without a prefix.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The vectors one after the other.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The vectors.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.width.max(1))
    }
}

/// MaxSim: for every vector of the query the best match in the document, summed. A document without vectors scores
/// lowest of all.
#[must_use]
pub fn max_sim(query: &Vectors, document: &Vectors) -> f32 {
    query
        .rows()
        .map(|wanted| {
            document
                .rows()
                .map(|found| wanted.iter().zip(found).map(|(a, b)| a * b).sum::<f32>())
                .fold(f32::NEG_INFINITY, f32::max)
        })
        .sum()
}

/// Scales every row to length one, as torch's `normalize` does.
pub(super) fn normalise(rows: &mut [f32], width: usize) {
    for row in rows.chunks_exact_mut(width.max(1)) {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
        row.iter_mut().for_each(|value| *value /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_match_of_every_query_vector_counts() {
        let query = Vectors::new(2, vec![1.0, 0.0, 0.0, 1.0]);
        let document = Vectors::new(2, vec![0.6, 0.8, -1.0, 0.0, 0.8, 0.6]);
        assert!((max_sim(&query, &document) - 1.6).abs() < 1e-6);
        assert_eq!(max_sim(&query, &Vectors::new(2, Vec::new())), f32::NEG_INFINITY);
    }

    #[test]
    fn rows_are_scaled_to_length_one() {
        let mut rows = vec![3.0, 4.0, 0.0, 0.0];
        normalise(&mut rows, 2);
        assert_eq!(rows, [0.6, 0.8, 0.0, 0.0]);
    }
}
