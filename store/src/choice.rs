//! Which files of a repository a precision needs, and which names may be written below a model's folder at all.
//!
//! A list of what is taken rather than of what is left out: a repository may hold weights for other engines, scripts
//! and pickled objects, and none of those is ever fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use eddy_models::folder::{Precision, Role, Wanted, role_of};

use crate::error::{Error, Result};
use crate::hub::{Listing, Remote};

/// The longest path below a model's folder.
const LONGEST: usize = 240;

/// Checks a path that a hub or an archive names.
///
/// # Errors
/// [`Error::Escapes`] for one that is absolute, has `..` in it, or holds what no file of a model has in its name.
pub fn inside(path: &str, source_name: &str) -> Result<()> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let odd = |c: char| c.is_control() || c == '\\';
    match plain && !path.is_empty() && path.len() <= LONGEST && !path.contains(odd) && !path.contains("//") {
        true => Ok(()),
        false => Err(Error::Escapes { path: path.to_owned(), source_name: source_name.to_owned() }),
    }
}

/// The files of `listing` that the wanted precision needs, by path. Weights are taken by their graph's name; a graph
/// that refers to others is asked for them once it is here.
///
/// # Errors
/// [`Error::NoModel`] when no known graph is there.
pub fn choose(listing: &Listing, wanted: Wanted) -> Result<Vec<&Remote>> {
    let mut graphs: BTreeMap<Role, BTreeMap<Precision, &Remote>> = BTreeMap::new();
    // In the order in which a folder is read: of two graphs for one thing the later counts, and onnx/ comes after the root.
    let mut order: Vec<&Remote> = listing.files.iter().collect();
    order.sort_by_key(|file| (file.path.contains('/'), &file.path));
    for file in order {
        if let Some((role, precision)) = graph(&file.path) {
            graphs.entry(role).or_default().insert(precision, file);
        }
    }
    if !graphs.contains_key(&Role::Decoder) {
        return Err(Error::NoModel {
            repository: listing.repository.to_string(),
            reason: "it holds no decoder graph in onnx/ or at its root".into(),
        });
    }
    let order = wanted.order();
    let chosen: Vec<&Remote> =
        graphs.values().filter_map(|files| order.iter().find_map(|precision| files.get(precision)).copied()).collect();
    let taken = |file: &&Remote| {
        chosen.iter().any(|graph| graph.path == file.path || is_weights_of(&graph.path, &file.path))
            || beside(&file.path)
    };
    let mut seen = BTreeSet::new();
    Ok(listing.files.iter().filter(taken).filter(|file| seen.insert(&file.path)).collect())
}

/// The role and precision of a graph in `onnx/` or at the root.
fn graph(path: &str) -> Option<(Role, Precision)> {
    let name = path.strip_prefix("onnx/").unwrap_or(path);
    role_of(name.strip_suffix(".onnx").filter(|stem| !stem.contains('/'))?)
}

/// `decoder_q4.onnx_data`, `decoder_q4.onnx_data_1`, `decoder_q4.onnx.data`.
fn is_weights_of(graph: &str, path: &str) -> bool {
    path.strip_prefix(graph).is_some_and(|rest| rest.starts_with("_data") || rest.starts_with(".data"))
}

/// Whether a file belongs to a model in every precision: settings, tokenizer, tables, licence.
pub fn beside(path: &str) -> bool {
    if ["1_Dense/config.json", "1_Dense/model.safetensors"].contains(&path) {
        return true;
    }
    let name = path.strip_prefix("onnx/").unwrap_or(path);
    let upper = name.to_ascii_uppercase();
    let table = ["embed_tokens.bin", "audio_embedding.bin"].contains(&name);
    let legal = ["LICENSE", "LICENCE", "NOTICE", "README.MD"].iter().any(|word| upper.starts_with(word));
    let settings = [".json", ".jinja"].iter().any(|ending| name.ends_with(ending)) || name == "merges.txt";
    !name.contains('/') && !name.starts_with('.') && (table || legal || settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Hash;
    use crate::hub::Repository;

    fn listing(paths: &[&str]) -> Listing {
        let files = paths.iter().map(|path| Remote {
            path: (*path).to_owned(),
            size: 1,
            hash: Some(Hash::GitSha1("0".repeat(40))),
        });
        Listing {
            repository: Repository::parse("a/b").expect("a name"),
            commit: "c".into(),
            files: files.collect(),
            license: None,
            license_link: None,
        }
    }

    fn chosen(paths: &[&str], wanted: &str) -> Vec<String> {
        let listing = listing(paths);
        let wanted = wanted.parse().expect("a precision");
        choose(&listing, wanted).expect("a model").into_iter().map(|file| file.path.clone()).collect()
    }

    #[test]
    fn a_precision_takes_its_graphs_their_weights_and_what_stands_beside_them() {
        let paths = [
            ".gitattributes",
            "LICENSE",
            "README.md",
            "config.json",
            "model.safetensors",
            "modeling_lfm2.py",
            "onnx/audio_embedding.bin",
            "onnx/audio_embedding.json",
            "onnx/audio_encoder.onnx",
            "onnx/audio_encoder.onnx_data",
            "onnx/decoder.onnx",
            "onnx/decoder.onnx_data",
            "onnx/decoder.onnx_data_1",
            "onnx/decoder_q4.onnx",
            "onnx/decoder_q4.onnx_data",
            "onnx/decoder_q4f16.onnx",
            "onnx/weights.pkl",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let always = ["LICENSE", "README.md", "config.json", "onnx/audio_embedding.bin", "onnx/audio_embedding.json"];
        let with = |graphs: &[&'static str]| {
            let mut all: Vec<&str> = always.iter().chain(graphs).copied().chain(["tokenizer.json"]).collect();
            all.sort_unstable();
            all
        };
        let encoder = ["onnx/audio_encoder.onnx", "onnx/audio_encoder.onnx_data"];
        let q4 = [encoder[0], encoder[1], "onnx/decoder_q4.onnx", "onnx/decoder_q4.onnx_data"];
        assert_eq!(chosen(&paths, "q4"), with(&q4));
        let full = [encoder[0], encoder[1], "onnx/decoder.onnx", "onnx/decoder.onnx_data", "onnx/decoder.onnx_data_1"];
        assert_eq!(chosen(&paths, "fp32"), with(&full));
    }

    #[test]
    fn a_repository_without_graphs_is_no_model() {
        let error = choose(&listing(&["model.safetensors", "config.json"]), Wanted::Auto).expect_err("no graph");
        assert!(matches!(error, Error::NoModel { .. }), "{error}");
    }

    #[test]
    fn paths_stay_inside() {
        for good in ["config.json", "onnx/decoder_q4.onnx_data"] {
            assert!(inside(good, "a/b").is_ok(), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "onnx/../../x", "a\\b", "a\nb", "./x", "a//b"] {
            assert!(matches!(inside(bad, "a/b"), Err(Error::Escapes { .. })), "{bad}");
        }
    }
}
