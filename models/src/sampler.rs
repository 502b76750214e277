//! Choosing a token or a code from logits.
//!
//! The order of the steps is that of transformers: repetition penalty, temperature, top-k, top-p, min-p. The
//! vocabulary is never sorted: top-k selects, and only what is left is ordered.

/// How to choose. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; zero or less means greedy.
    pub temperature: f32,
    /// Keeps this many; zero keeps all, one means greedy. Equals of the last one stay, as in the reference.
    pub top_k: usize,
    /// Keeps the most probable whose sum reaches this; one keeps all.
    pub top_p: f32,
    /// Drops what is less probable than this share of the most probable; zero keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of what was said already; one changes nothing.
    pub repetition_penalty: f32,
}

impl Sampling {
    /// Always the most probable.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };

    /// Temperature and top-k, the two knobs of speech.
    #[must_use]
    pub const fn top_k(temperature: f32, top_k: usize) -> Self {
        Self { temperature, top_k, ..Self::GREEDY }
    }

    fn is_greedy(&self) -> bool {
        self.temperature <= 0.0 || self.top_k == 1
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self::GREEDY
    }
}

/// A seeded source of choices. The same seed and the same logits give the same choices.
#[derive(Debug, Clone)]
pub struct Sampler {
    random: fastrand::Rng,
    candidates: Vec<(f32, u32)>,
    said: Vec<bool>,
}

impl Sampler {
    /// Starts the sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), candidates: Vec::new(), said: Vec::new() }
    }

    /// Chooses an index of `logits` among those that `allowed` admits; `said` are the indices that the repetition
    /// penalty applies to. `None` when nothing can be chosen: no index is allowed, or no allowed logit is a number.
    pub fn choose(
        &mut self,
        logits: &[f32],
        how: &Sampling,
        said: &[u32],
        allowed: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let penalty = how.repetition_penalty;
        self.said.clear();
        if penalty != 1.0 {
            // Marks rather than a search for every row: vocabulary and text are both long.
            self.said.resize(logits.len(), false);
            for index in said {
                if let Some(mark) = self.said.get_mut(*index as usize) {
                    *mark = true;
                }
            }
        }
        let marks = &self.said;
        let marked = |index: u32| marks.get(index as usize).copied().unwrap_or_default();
        let penalised = |index: u32, logit: f32| match (marked(index), logit > 0.0) {
            (false, _) => logit,
            (true, true) => logit / penalty,
            (true, false) => logit * penalty,
        };
        self.candidates.clear();
        self.candidates.extend(
            (0_u32..)
                .zip(logits)
                .filter(|(index, logit)| !logit.is_nan() && **logit > f32::NEG_INFINITY && allowed(*index))
                .map(|(index, logit)| (penalised(index, *logit), index)),
        );
        if how.is_greedy() {
            // The first of equals, as argmax does in the reference.
            return self
                .candidates
                .iter()
                .copied()
                .reduce(|best, other| if other.0 > best.0 { other } else { best })
                .map(|(_, index)| index);
        }
        self.keep_top_k(how.top_k);
        self.draw(how)
    }

    fn keep_top_k(&mut self, top_k: usize) {
        if top_k > 0 && top_k < self.candidates.len() {
            let (_, (kth, _), _) = self.candidates.select_nth_unstable_by(top_k - 1, |a, b| b.0.total_cmp(&a.0));
            let kth = *kth;
            self.candidates.retain(|(logit, _)| *logit >= kth);
        }
    }

    fn draw(&mut self, how: &Sampling) -> Option<u32> {
        // Order decides ties and makes the draw a function of the seed alone.
        self.candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let best = self.candidates.first()?.0;
        for (logit, _) in &mut self.candidates {
            *logit = ((*logit - best) / how.temperature).exp();
        }
        if how.top_p < 1.0 {
            let enough = how.top_p * self.candidates.iter().map(|(weight, _)| weight).sum::<f32>();
            let mut sum = 0.0;
            let kept = self.candidates.iter().take_while(|(weight, _)| {
                let wanted = sum < enough;
                sum += weight;
                wanted
            });
            let kept = kept.count().max(1);
            self.candidates.truncate(kept);
        }
        // The first weight is one, so the share of the most probable is the weight itself.
        self.candidates.retain(|(weight, _)| *weight >= how.min_p);
        let total: f32 = self.candidates.iter().map(|(weight, _)| weight).sum();
        let mut at = self.random.f32() * total;
        for (weight, index) in &self.candidates {
            at -= weight;
            if at < 0.0 {
                return Some(*index);
            }
        }
        self.candidates.last().map(|(_, index)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, 2.0, -1.0];

    fn counts(how: Sampling, draws: usize) -> [usize; 5] {
        let mut sampler = Sampler::new(7);
        let mut counts = [0; 5];
        for _ in 0..draws {
            let index = sampler.choose(&LOGITS, &how, &[], |_| true).expect("something to choose");
            counts[index as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(counts(Sampling::GREEDY, 1), [0, 1, 0, 0, 0]);
        assert_eq!(counts(Sampling::top_k(1.0, 1), 1), [0, 1, 0, 0, 0]);
    }

    #[test]
    fn what_is_not_allowed_is_never_chosen() {
        let mut sampler = Sampler::new(1);
        for how in [Sampling::GREEDY, Sampling::top_k(2.0, 0)] {
            for _ in 0..100 {
                assert_ne!(sampler.choose(&LOGITS, &how, &[], |index| index != 1), Some(1));
            }
            assert_eq!(sampler.choose(&LOGITS, &how, &[], |_| false), None);
            assert_eq!(sampler.choose(&[f32::NAN; 3], &how, &[], |_| true), None);
        }
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let draws = 40_000;
        let weights = LOGITS.map(f32::exp);
        let total: f32 = weights.iter().sum();
        for (count, weight) in counts(Sampling::top_k(1.0, 0), draws).iter().zip(weights) {
            let expected = weight / total;
            assert!((*count as f32 / draws as f32 - expected).abs() < 0.01, "{count} of {draws}, {expected}");
        }
    }

    #[test]
    fn filters_drop_the_tail() {
        assert_eq!(counts(Sampling::top_k(1.0, 2), 1000).map(|count| count > 0), [false, true, false, true, false]);
        // Ties of the last place stay, as `logits >= k-th largest` does.
        assert_eq!(counts(Sampling::top_k(1.0, 3), 1000).map(|count| count > 0), [false, true, true, true, false]);
        let nucleus = Sampling { top_p: 0.7, ..Sampling::top_k(1.0, 0) };
        assert_eq!(counts(nucleus, 1000).map(|count| count > 0), [false, true, false, true, false]);
        let relative = Sampling { min_p: 0.2, ..Sampling::top_k(1.0, 0) };
        assert_eq!(counts(relative, 1000).map(|count| count > 0), [false, true, true, true, false]);
    }

    #[test]
    fn repetition_is_penalised() {
        let how = Sampling { repetition_penalty: 2.1, ..Sampling::GREEDY };
        let mut sampler = Sampler::new(1);
        assert_eq!(sampler.choose(&LOGITS, &how, &[1], |_| true), Some(3));
        assert_eq!(sampler.choose(&LOGITS, &how, &[1, 3], |_| true), Some(2));
    }

    #[test]
    fn a_seed_gives_its_sequence() {
        let draw = |seed| {
            let mut sampler = Sampler::new(seed);
            (0..20).map(|_| sampler.choose(&LOGITS, &Sampling::top_k(1.0, 0), &[], |_| true)).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
