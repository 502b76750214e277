//! Precisions: the suffixes of graph files, and what stands in for a file that a folder lacks.

use std::str::FromStr;

use crate::error::Error;

/// The precision of a graph's weights, by the suffix of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precision {
    /// `NAME.onnx`: 32-bit floats.
    Fp32,
    /// `NAME_fp16.onnx`: 16-bit floats.
    Fp16,
    /// `NAME_q8.onnx` (also `_int8`, `_quantized`): 8-bit blocks.
    Q8,
    /// `NAME_q4.onnx`: 4-bit blocks.
    Q4,
    /// `NAME_q4f16.onnx`: 4-bit blocks, 16-bit float elsewhere.
    Q4f16,
    /// `NAME_q4f32.onnx`: 4-bit blocks in the layers, 32-bit float embedding.
    Q4f32,
}

use Precision::{Fp16, Fp32, Q4, Q4f16, Q4f32, Q8};

impl Precision {
    /// What `auto` prefers on a CPU where a folder does not name its default: decoding is bound by memory, so fewer
    /// bytes come first, and 16-bit floats come late because a CPU converts them before it computes.
    const FASTEST_FIRST: [Self; 6] = [Q4, Q4f32, Q8, Q4f16, Fp16, Fp32];

    /// The name that people type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fp32 => "fp32",
            Fp16 => "fp16",
            Q8 => "q8",
            Q4 => "q4",
            Q4f16 => "q4f16",
            Q4f32 => "q4f32",
        }
    }

    /// The precision that the rest of a file's stem stands for, such as `_q4`; `None` if it is no precision.
    pub(super) fn of_suffix(suffix: &str) -> Option<Self> {
        match suffix {
            "" => Some(Fp32),
            "_fp16" => Some(Fp16),
            "_q8" | "_int8" | "_quantized" => Some(Q8),
            "_q4" => Some(Q4),
            "_q4f16" => Some(Q4f16),
            "_q4f32" => Some(Q4f32),
            _ => None,
        }
    }

    /// What to take for a part that lacks this precision, best first and this precision at the head. Published
    /// bundles mix: a 4-bit decoder comes with 8-bit embeddings.
    pub(super) fn stand_ins(self) -> [Self; 6] {
        match self {
            Fp32 => [Fp32, Fp16, Q8, Q4f32, Q4, Q4f16],
            Fp16 => [Fp16, Fp32, Q8, Q4f16, Q4f32, Q4],
            Q8 => [Q8, Fp16, Fp32, Q4f32, Q4, Q4f16],
            Q4 => [Q4, Q8, Q4f32, Q4f16, Fp16, Fp32],
            Q4f16 => [Q4f16, Q4, Fp16, Q8, Q4f32, Fp32],
            Q4f32 => [Q4f32, Q4, Q8, Fp32, Fp16, Q4f16],
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// The precision that a caller asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The folder's own default, or else the fastest on a CPU.
    #[default]
    Auto,
    /// This one.
    Exactly(Precision),
}

impl Wanted {
    /// The order in which files are looked for.
    #[must_use]
    pub fn order(self) -> [Precision; 6] {
        match self {
            Self::Auto => Precision::FASTEST_FIRST,
            Self::Exactly(precision) => precision.stand_ins(),
        }
    }
}

impl Wanted {
    /// A sentence for when another precision than this one was found; `None` when it is what was asked for.
    #[must_use]
    pub fn stood_in_by(self, found: Precision) -> Option<String> {
        match self {
            Self::Exactly(wanted) if wanted != found => {
                Some(format!("the folder has no {wanted} decoder, {found} is used"))
            }
            Self::Exactly(_) | Self::Auto => None,
        }
    }
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        Precision::FASTEST_FIRST
            .into_iter()
            .find(|precision| precision.name() == text)
            .map(Self::Exactly)
            .ok_or_else(|| Error::UnknownPrecision { given: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for precision in Precision::FASTEST_FIRST {
            assert_eq!(precision.name().parse::<Wanted>().ok(), Some(Wanted::Exactly(precision)));
            assert_eq!(precision.stand_ins()[0], precision);
        }
        assert!(matches!("q5".parse::<Wanted>(), Err(Error::UnknownPrecision { .. })));
    }
}
