//! Whether a package's parts belong together: for who makes one, and again for who installs one.

use super::weights::{WeightsFacts, read_weights};
use super::{
    Abi, Backbone, FileRole, PackageFile, PackageManifest, SCHEMA, check_party, check_path, check_target,
};
use crate::digest::sha256_of_file;
use crate::error::{RegistryError, Result};
use anymc3d_manifest::Manifest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a package is made of, where its author has it.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The dynamic library.
    pub library: PathBuf,
    /// ABI it was built for.
    pub abi: Abi,
    /// Target it was built for.
    pub target: String,
    /// The trained weights.
    pub weights: PathBuf,
    /// `plugin.toml`.
    pub plugin_toml: PathBuf,
    /// The model card.
    pub model_card: PathBuf,
    /// The licence's text.
    pub license: PathBuf,
    /// A folder of golden cases.
    pub golden: PathBuf,
    /// Who publishes it.
    pub publisher: String,
}

/// A model card that says less is none.
const CARD_MINIMUM: usize = 200;

impl Parts {
    /// The manifest, and where each of its files is read from.
    ///
    /// # Errors
    /// [`RegistryError::Incomplete`] with every part that is missing or does not fit, not only the first.
    pub fn manifest(&self) -> Result<(PackageManifest, BTreeMap<String, PathBuf>)> {
        let mut reasons = Vec::new();
        let mut keep = |result: Result<(), String>| {
            if let Err(reason) = result {
                reasons.push(reason);
            }
        };
        keep(check_party(&self.publisher));
        keep(check_target(&self.target));
        let text = read_text(&self.plugin_toml, "plugin.toml");
        let parsed = text.and_then(|t| Manifest::parse(&t).map_err(|e| e.to_string()));
        let plugin = match parsed {
            Ok(parsed) => Some(parsed.manifest),
            Err(reason) => {
                keep(Err(reason));
                None
            }
        };
        keep(text_of(&self.model_card, "model card (README.md)", CARD_MINIMUM));
        keep(no_todo(&self.model_card));
        keep(text_of(&self.license, "licence", 1));
        let weights = match read_weights(&self.weights) {
            Ok(facts) => Some(facts),
            Err(e) => {
                keep(Err(format!("weights: {e}")));
                None
            }
        };
        if let Some(plugin) = &plugin {
            keep(intended_use(plugin));
            if let Some(weights) = &weights {
                keep(weights_fit(&plugin.plugin.name, &plugin.plugin.version.to_string(), weights));
            }
        }
        let mut files = BTreeMap::new();
        match self.files(plugin.as_ref().map_or("plugin", |p| &p.plugin.name)) {
            Ok(found) => files = found,
            Err(e) => keep(Err(e)),
        }
        if !files.iter().any(|(path, (role, _))| *role == FileRole::Golden && path.ends_with(".json")) {
            let made = "make one with `host plugin golden`";
            keep(Err(format!("no golden case in {}; {made}", self.golden.display())));
        }
        let (Some(plugin), Some(weights), true) = (plugin, weights, reasons.is_empty()) else {
            return Err(RegistryError::Incomplete { reasons });
        };
        let mut listed = Vec::new();
        for (path, (role, source)) in &files {
            let (sha256, bytes) = sha256_of_file(source)?;
            listed.push(PackageFile { path: path.clone(), role: *role, bytes, sha256 });
        }
        listed.sort_by(|a, b| (a.role, &a.path).cmp(&(b.role, &b.path)));
        let manifest = PackageManifest {
            schema: SCHEMA.to_owned(),
            name: plugin.plugin.name,
            version: plugin.plugin.version,
            target: self.target.clone(),
            abi: self.abi,
            publisher: self.publisher.clone(),
            summary: plugin.plugin.summary,
            labels: plugin.task.labels,
            intended_use: plugin.plugin.intended_use,
            license: plugin.plugin.license,
            backbone: Backbone {
                name: weights.backbone,
                families: plugin.backbone.families,
                min_embed_dim: plugin.backbone.min_embed_dim,
                fingerprint: weights.backbone_fingerprint,
            },
            files: listed,
        };
        Ok((manifest, files.into_iter().map(|(path, (_, source))| (path, source)).collect()))
    }

    fn files(&self, name: &str) -> Result<BTreeMap<String, (FileRole, PathBuf)>, String> {
        let library = self.library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = BTreeMap::from([
            (library, (FileRole::Library, self.library.clone())),
            (format!("{name}.safetensors"), (FileRole::Weights, self.weights.clone())),
            ("plugin.toml".to_owned(), (FileRole::PluginToml, self.plugin_toml.clone())),
            ("README.md".to_owned(), (FileRole::ModelCard, self.model_card.clone())),
            ("LICENSE".to_owned(), (FileRole::License, self.license.clone())),
        ]);
        let unreadable =
            |e: std::io::Error| format!("golden cases: {}: cannot be read ({e})", self.golden.display());
        for entry in std::fs::read_dir(&self.golden).map_err(unreadable)? {
            let source = entry.map_err(unreadable)?.path();
            if source.is_file() {
                let path = format!("golden/{}", source.file_name().unwrap_or_default().to_string_lossy());
                check_path(&path)?;
                files.insert(path, (FileRole::Golden, source));
            }
        }
        Ok(files)
    }
}

fn read_text(path: &Path, what: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("no {what}: {} ({e})", path.display()))
}

fn text_of(path: &Path, what: &str, minimum: usize) -> Result<(), String> {
    let text = read_text(path, what)?;
    match text.trim().len() {
        n if n >= minimum => Ok(()),
        n => Err(format!("no {what}: {} has {n} characters, expected {minimum} or more", path.display())),
    }
}

/// Refuses a card with places that its author still has to fill. A card that cannot be read is told elsewhere.
fn no_todo(card: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(card).unwrap_or_default();
    let open: Vec<String> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == "TODO"))
        .map(|(n, _)| (n + 1).to_string())
        .collect();
    match open.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "model card: {} says TODO on line {}; fill these places, or leave them out",
            card.display(),
            open.join(", ")
        )),
    }
}

fn intended_use(plugin: &Manifest) -> Result<(), String> {
    match plugin.plugin.intended_use.trim() {
        "" => Err("no intended use: plugin.toml's `plugin.intended_use` is empty".to_owned()),
        _ => Ok(()),
    }
}

fn weights_fit(name: &str, version: &str, weights: &WeightsFacts) -> Result<(), String> {
    if (weights.plugin.as_str(), weights.plugin_version.as_str()) == (name, version) {
        return Ok(());
    }
    let adopt = match weights.plugin == name {
        true => {
            "; where parameters, labels and preprocessing are the same, `host plugin adopt-weights` gives them this version"
        }
        false => "",
    };
    Err(format!(
        "weights of {} {}, expected those of {name} {version}{adopt}",
        weights.plugin, weights.plugin_version
    ))
}

/// Checks that the content of a package's files agrees with its manifest.
///
/// # Errors
/// The error names the first difference.
pub(crate) fn check(folder: &Path, manifest: &PackageManifest) -> Result<()> {
    let refuse = |reason: String| RegistryError::package(manifest.label(), reason);
    let at = |role| manifest.file(role).map(|f| folder.join(&f.path));
    let text = read_text(&at(FileRole::PluginToml)?, "plugin.toml").map_err(refuse)?;
    let plugin = Manifest::parse(&text).map_err(|e| refuse(e.to_string()))?.manifest;
    let (name, version) = (&plugin.plugin.name, &plugin.plugin.version);
    if (name, version) != (&manifest.name, &manifest.version) {
        return Err(refuse(format!("plugin.toml is of {name} {version}")));
    }
    let same = plugin.task.labels == manifest.labels
        && plugin.plugin.intended_use == manifest.intended_use
        && plugin.plugin.license == manifest.license
        && plugin.backbone.families == manifest.backbone.families
        && plugin.backbone.min_embed_dim == manifest.backbone.min_embed_dim;
    if !same {
        return Err(refuse(
            "package.json and plugin.toml differ in labels, intended use, licence or backbone".to_owned(),
        ));
    }
    intended_use(&plugin).map_err(refuse)?;
    text_of(&at(FileRole::ModelCard)?, "model card", CARD_MINIMUM).map_err(refuse)?;
    text_of(&at(FileRole::License)?, "licence", 1).map_err(refuse)?;
    let weights = read_weights(&at(FileRole::Weights)?)?;
    weights_fit(name, &version.to_string(), &weights).map_err(refuse)?;
    if weights.backbone_fingerprint != manifest.backbone.fingerprint {
        return Err(refuse("the weights were trained on another backbone than package.json says".to_owned()));
    }
    Ok(())
}
