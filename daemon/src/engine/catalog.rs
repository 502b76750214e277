//! Which model folders there are. A look at names, sizes and headers; nothing is loaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use eddy_models::folder::{ModelFolder, Role, Wanted};
use eddy_store::Manifest;

use super::slot::{Folder, Task};
use crate::remote::{self, Description};

/// The model folders in `directories`, in that order and by name inside each; of two with one name the first. A
/// directory that is a model folder itself counts as one. What looks like a model and cannot be used is listed with
/// the reason.
#[must_use]
pub fn scan(directories: &[PathBuf], wanted: Wanted) -> Vec<Folder> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for directory in directories {
        for path in candidates(directory) {
            let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
            if seen.insert(name.clone()) {
                found.push(look(name, path, wanted));
            }
        }
    }
    found
}

fn candidates(directory: &Path) -> Vec<PathBuf> {
    if looks_like_model(directory) {
        return vec![directory.to_path_buf()];
    }
    // A directory of the search path that is not there holds nothing; that is no error.
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| looks_like_model(path)).collect();
    paths.sort();
    paths
}

/// Whether somebody meant this to be a model: graphs, or the configuration of one.
fn looks_like_model(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let described = path.join("onnx").is_dir() || path.join("tokenizer.json").is_file();
    !hidden && (described || path.join(remote::FILE).is_file())
}

fn look(name: String, path: PathBuf, wanted: Wanted) -> Folder {
    let mut folder = Folder {
        name,
        family: String::new(),
        precision: String::new(),
        license: license(&path).or_else(|| Manifest::read(&path).ok()??.license).unwrap_or_default(),
        path,
        task: None,
        bytes: 0,
        remote: None,
        problem: None,
    };
    match Description::read(&folder.path) {
        Some(Ok(description)) => return elsewhere(folder, description),
        Some(Err(problem)) => return Folder { problem: Some(problem), ..folder },
        None => {}
    }
    if let Err(error) = measure(&mut folder, wanted) {
        folder.problem = Some(error.to_string());
    }
    folder
}

/// A model that another engine serves.
fn elsewhere(folder: Folder, description: Description) -> Folder {
    Folder {
        family: "remote".into(),
        task: Some(description.task()),
        problem: remote::refused_by_unit(),
        remote: Some(description),
        ..folder
    }
}

/// Takes models that other engines serve out of use, unless they are allowed.
pub fn allow_remote(folders: &mut [Folder], allowed: bool) {
    for folder in folders.iter_mut().filter(|folder| !allowed && folder.remote.is_some()) {
        folder.problem = Some(
            "what is asked of it leaves this machine's daemon; set models.remote = true in eddy.toml to allow it"
                .into(),
        );
    }
}

fn measure(found: &mut Folder, wanted: Wanted) -> eddy_models::Result<()> {
    let folder = ModelFolder::open(&found.path)?;
    let purpose = "nothing works without it; download the folder again";
    // A folder that lacks the configured precision is loaded in the nearest one that it has.
    let decoder = match folder.graph(Role::Decoder, wanted)? {
        Some(decoder) => decoder,
        None => folder.required_graph(Role::Decoder, Wanted::Auto, purpose)?,
    };
    let family = folder.family(&decoder);
    found.task = Some(Task::from(family));
    found.family = model_type(&found.path).unwrap_or_else(|| family.name().to_owned());
    found.precision = decoder.precision().to_string();
    // Each file once: graphs share weights with each other and with the tables of embeddings beside them.
    let mut files = BTreeSet::new();
    for role in folder.files().keys() {
        if let Some(graph) = folder.graph(*role, Wanted::Exactly(decoder.precision()))? {
            let external = graph.model().initializers.iter().filter_map(|tensor| tensor.external.as_ref());
            files.extend(external.map(|data| folder.graphs().join(&data.location)));
            files.insert(graph.path().to_path_buf());
        }
    }
    let beside = std::fs::read_dir(folder.graphs()).into_iter().flatten().flatten().map(|entry| entry.path());
    files.extend(beside.filter(|path| path.extension().is_some_and(|extension| extension == "bin")));
    found.bytes = files.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum();
    Ok(())
}

/// `model_type` of `config.json`, with a hyphen as people write it.
fn model_type(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path.join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(config.get("model_type")?.as_str()?.replace('_', "-"))
}

/// The licence that the front matter of `README.md` states: its own name where `license` is only `other`.
fn license(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path.join("README.md")).ok()?;
    let matter = text.strip_prefix("---")?.split("\n---").next()?;
    let field = |name: &str| {
        let line = matter.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
    };
    match field("license") {
        Some(license) if license == "other" => field("license_name").or(Some(license)),
        license => license,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixtures_are_found_with_their_kind_and_size() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let found = scan(&[fixtures.join("speech-a"), "/nonexistent".into()], Wanted::Auto);
        let [folder] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((folder.name.as_str(), folder.task), ("speech-a", Some(Task::Speech)));
        assert_eq!((folder.precision.as_str(), &folder.problem), ("q4", &None));
        // The 4-bit graphs with their weights, which they share with the 32-bit ones in part, and two tables.
        assert!((5_500_000..6_500_000).contains(&folder.bytes), "{}", folder.bytes);
        let all = scan(&[fixtures], Wanted::Auto);
        assert!(all.iter().any(|folder| folder.name == "speech-c"));
    }

    #[test]
    fn a_damaged_folder_is_listed_with_its_reason() {
        let root = tempfile::tempdir().expect("temporary folder");
        let broken = root.path().join("broken");
        std::fs::create_dir_all(broken.join("onnx")).expect("made");
        std::fs::write(broken.join("onnx/decoder.onnx"), "<html>").expect("written");
        std::fs::write(broken.join("README.md"), "---\nlicense: other\nlicense_name: lfm1.0\n---\n# x")
            .expect("written");
        std::fs::create_dir_all(root.path().join("notes")).expect("made");
        let found = scan(&[root.path().to_path_buf()], Wanted::Auto);
        let [folder] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((folder.name.as_str(), folder.license.as_str()), ("broken", "lfm1.0"));
        assert!(folder.problem.as_ref().is_some_and(|reason| reason.contains("decoder.onnx")), "{folder:?}");
    }
}
