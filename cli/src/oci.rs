//! Container images in the OCI image layout: which archives their file systems are made of.
//!
//! Source: `image-layout.md`, `image-index.md` and `manifest.md` of the OCI image format specification.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use btfleet_engine::ingest::{InputError, Intake, Limits, ObjectInput};
use serde::Deserialize;

use crate::inputs::Found;
use crate::intake;

/// The file that marks the directory of a layout.
pub(crate) const MARKER: &str = "oci-layout";
/// Largest index or manifest, in **bytes**; registries take 4 MiB.
const JSON_MAX: u64 = 16 << 20;
/// Indexes within each other.
const DEPTH_MAX: u32 = 8;
/// Digits of a digest in a name.
const DIGEST_DIGITS: usize = 12;

/// An index, or a manifest: the one has `manifests`, the other `layers`.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// An image: what it is for, and its layers.
struct Image {
    platform: Option<String>,
    digest: String,
    layers: Vec<PathBuf>,
}

/// Whether a directory is a layout.
pub(crate) fn is_layout(dir: &Path) -> bool {
    dir.join(MARKER).is_file() && dir.join("index.json").is_file()
}

/// The images of a layout, each once: there is one for each platform, or several.
pub(crate) fn images(dir: &Path, walked: bool, found: &mut Found<ObjectInput>) {
    let limits = Limits { expanded: JSON_MAX, ..intake::get().limits };
    let mut layout = Layout {
        dir,
        intake: Intake { limits, ..Intake::default() },
        images: Vec::new(),
        seen: BTreeSet::new(),
        errors: Vec::new(),
    };
    layout.add(&dir.join("index.json"), None, "", 0);
    let Layout { images, errors, .. } = layout;
    found.errors.extend(errors);
    let platforms: Vec<Option<String>> = images.iter().map(|it| it.platform.clone()).collect();
    let is_only = images.len() == 1;
    for Image { platform, digest, layers } in images {
        let mut image = dir.as_os_str().to_owned();
        if !is_only {
            let is_alone = platforms.iter().filter(|it| **it == platform).count() == 1;
            let digits = digest.split_once(':').map_or(digest.as_str(), |it| it.1);
            let digits = digits.get(..DIGEST_DIGITS).unwrap_or(digits);
            image.push(match platform {
                Some(platform) if is_alone => format!("!/{platform}"),
                Some(platform) => format!("!/{platform}@{digits}"),
                None => format!("!/{digits}"),
            });
        }
        found.inputs.push(ObjectInput::Layers { image: image.into(), layers, walked });
    }
}

struct Layout<'a> {
    dir: &'a Path,
    intake: Intake,
    images: Vec<Image>,
    /// Digests of what has been looked at.
    seen: BTreeSet<String>,
    errors: Vec<InputError>,
}

impl Layout<'_> {
    /// Adds the images of an index, or the one of a manifest.
    fn add(&mut self, path: &Path, platform: Option<String>, digest: &str, depth: u32) {
        let document = self.intake.read(path).and_then(|json| {
            serde_json::from_slice::<Document>(&json)
                .map_err(|error| InputError::unreadable(path, format!("no index or manifest: {error}")))
        });
        let document = match document {
            Ok(document) => document,
            Err(error) => return self.errors.push(error),
        };
        for it in document.manifests {
            let Some(blob) = self.blob(&it.digest) else { continue };
            if depth < DEPTH_MAX && self.seen.insert(it.digest.clone()) {
                let platform = it.platform.and_then(|it| it.name()).or_else(|| platform.clone());
                self.add(&blob, platform, &it.digest, depth + 1);
            }
        }
        // Beside file systems, artifacts have statements and signatures for layers.
        let layers = document.layers.iter().filter(|it| it.media_type.contains("tar"));
        let layers: Vec<PathBuf> = layers.filter_map(|it| self.blob(&it.digest)).collect();
        if !layers.is_empty() {
            self.images.push(Image { platform, digest: digest.to_owned(), layers });
        }
    }

    /// Where a digest's bytes are. One that is no digest is an error: it could lead anywhere.
    fn blob(&mut self, digest: &str) -> Option<PathBuf> {
        let is_part = |it: &str| {
            !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric() || b"+_-".contains(&it))
        };
        match digest.split_once(':').filter(|(algorithm, hash)| is_part(algorithm) && is_part(hash)) {
            Some((algorithm, hash)) => Some(self.dir.join("blobs").join(algorithm).join(hash)),
            None => {
                self.errors.push(InputError::unreadable(self.dir, format!("no digest: {digest}")));
                None
            }
        }
    }
}

impl Platform {
    /// `linux/arm64/v8`. `None` for what is no platform.
    fn name(self) -> Option<String> {
        let parts = [Some(self.os), Some(self.architecture), self.variant];
        let parts: Vec<String> = parts.into_iter().flatten().filter(|it| !it.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a digest never leads out of the layout.
    #[test]
    fn digests_stay_in_the_layout() {
        let mut layout = Layout {
            dir: Path::new("image"),
            intake: Intake::default(),
            images: Vec::new(),
            seen: BTreeSet::new(),
            errors: Vec::new(),
        };
        assert_eq!(layout.blob("sha256:0a1b"), Some("image/blobs/sha256/0a1b".into()));
        let bad =
            ["sha256:../../etc/passwd", "..:x", "sha256", "sha256:", ":0a", "sha256:a/b", "/etc:passwd"];
        for digest in bad {
            assert_eq!(layout.blob(digest), None, "{digest}");
        }
        assert_eq!(layout.errors.len(), bad.len());
    }
}
