//! What is pushed: one function per set of data of the conformance program.
//!
//! Each set is made for one algorithm: its blobs, its manifests in the order in which they can be
//! pushed, and what the referrers of its subjects must be.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Algorithm, OCI_INDEX, OCI_MANIFEST};
use crate::support::image::{Image, noise};

pub(super) const ARTIFACT: &str = "application/vnd.example.oci.conformance.v1";
pub(super) const OTHER_ARTIFACT: &str = "application/vnd.example.oci.conformance.v2";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const FOREIGN_TAR: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const FOREIGN_TAR_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

/// A manifest, and what its descriptor in a list of referrers is if it has a subject.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) media_type: &'static str,
    pub(super) bytes: Vec<u8>,
    /// The subject's digest.
    pub(super) subject: Option<String>,
    /// Its entry in the subject's list.
    pub(super) entry: Value,
}

/// What is pushed together.
#[derive(Debug)]
pub(super) struct DataSet {
    pub(super) algorithm: Algorithm,
    pub(super) blobs: Vec<(String, Vec<u8>)>,
    /// In the order in which they can be pushed.
    pub(super) manifests: Vec<Manifest>,
    /// Tags, and the digests that they stand for.
    pub(super) tags: Vec<(String, String)>,
    style: Style,
}

/// How descriptors and documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    /// Layers are not compressed.
    Uncompressed,
    /// Descriptors carry the content that they describe.
    Inline,
    /// Documents have fields and spaces that no specification knows.
    Custom,
}

impl DataSet {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            blobs: Vec::new(),
            manifests: Vec::new(),
            tags: Vec::new(),
            style: Style::Plain,
        }
    }

    fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    fn describe(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = self.algorithm.digest(bytes);
        let mut described = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        if self.style == Style::Inline {
            described["data"] = json!(STANDARD.encode(bytes));
        }
        described
    }

    /// Adds a blob, and describes it.
    pub(super) fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let described = self.describe(media_type, &bytes);
        let digest = text(&described["digest"]);
        if !self.blobs.iter().any(|(known, _)| *known == digest) {
            self.blobs.push((digest, bytes));
        }
        described
    }

    /// Adds a manifest with these fields besides those that every one has, and describes it.
    pub(super) fn manifest(&mut self, media_type: &'static str, fields: &Value) -> Value {
        let mut document = json!({"schemaVersion": 2, "mediaType": media_type});
        merge(&mut document, fields);
        let bytes = if self.style == Style::Custom {
            document["org.example.custom"] = json!({"kept": ["as", "it", "is"]});
            format!("{document:#}\n\n").into_bytes()
        } else {
            document.to_string().into_bytes()
        };
        let described = self.describe(media_type, &bytes);
        let mut entry = described.clone();
        entry.as_object_mut().expect("an object").remove("data");
        let of_config = document.pointer("/config/mediaType").cloned();
        let own = document.get("artifactType").cloned();
        if let Some(artifact_type) = own.or(of_config) {
            entry["artifactType"] = artifact_type;
        }
        if let Some(annotations) = document.get("annotations") {
            entry["annotations"] = annotations.clone();
        }
        self.manifests.push(Manifest {
            digest: text(&described["digest"]),
            media_type,
            bytes,
            subject: document.pointer("/subject/digest").map(text),
            entry,
        });
        described
    }

    /// Adds the config and the layers of an image.
    fn parts(&mut self, layers: usize) -> (Value, Vec<Value>) {
        let seed = self.blobs.len() as u64;
        let mut blobs = Image::uniform(seed, layers, 512).oci().blobs().into_iter();
        let (_, config) = blobs.next().expect("a config");
        let mut config: Value = serde_json::from_slice(&config).expect("a config");
        if self.style == Style::Custom {
            config["org.example.custom"] = json!("kept");
        }
        let config = self.blob(CONFIG, config.to_string().into_bytes());
        let layer = |(_, bytes): (String, bytes::Bytes)| {
            if self.style != Style::Uncompressed {
                return self.blob(TAR_GZIP, bytes.to_vec());
            }
            let mut tar = Vec::new();
            let read = flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut tar);
            read.expect("a compressed layer");
            self.blob(TAR, tar)
        };
        (config, blobs.map(layer).collect())
    }

    /// An image of two layers, with more fields.
    pub(super) fn image(&mut self, more: &Value) -> Value {
        let (config, layers) = self.parts(2);
        let mut fields = json!({"config": config, "layers": layers});
        merge(&mut fields, more);
        self.manifest(OCI_MANIFEST, &fields)
    }

    /// An artifact of one blob, with more fields.
    pub(super) fn artifact(&mut self, artifact_type: &str, more: &Value) -> Value {
        let config = self.blob(EMPTY, b"{}".to_vec());
        let content = noise(self.blobs.len() as u64, 5, 2048);
        let layer = self.blob(artifact_type, content);
        let mut fields =
            json!({"artifactType": artifact_type, "config": config, "layers": [layer]});
        merge(&mut fields, more);
        self.manifest(OCI_MANIFEST, &fields)
    }

    /// An index of an image for each of two platforms, or of artifacts, with more fields.
    pub(super) fn index(&mut self, more: &Value) -> Value {
        let children = ["amd64", "arm64"].map(|architecture| {
            let mut child = match more["artifactType"].as_str() {
                Some(artifact_type) => self.artifact(artifact_type, &json!({})),
                None => self.image(&json!({})),
            };
            child["platform"] = json!({"os": "linux", "architecture": architecture});
            child
        });
        self.index_of(&children, more)
    }

    fn index_of(&mut self, children: &[Value], more: &Value) -> Value {
        let mut fields = json!({"manifests": children});
        merge(&mut fields, more);
        self.manifest(OCI_INDEX, &fields)
    }

    /// Gives the last manifest a tag.
    pub(super) fn tag(mut self, tag: &str) -> Self {
        let last = self.manifests.last().expect("a manifest");
        self.tags.push((tag.to_owned(), last.digest.clone()));
        self
    }
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn merge(fields: &mut Value, more: &Value) {
    let fields = fields.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
}

/// The fields of what is attached to a subject; the number makes it one of its kind.
pub(super) fn attached(subject: &Value, number: usize) -> Value {
    json!({
        "subject": subject,
        "annotations": {
            "org.opencontainers.conformance": "hello conformance test",
            "org.example.number": number.to_string(),
        },
    })
}

pub(super) fn image(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    set.image(&json!({}));
    set.tag("image")
}

pub(super) fn uncompressed(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm).style(Style::Uncompressed);
    set.image(&json!({}));
    set.tag("image-uncompressed")
}

/// 3.9 MB: "manifest pushes of at least 4 megabytes".
pub(super) fn large_manifest(algorithm: Algorithm) -> DataSet {
    let annotation = |number| {
        (
            format!("large-annotation-{number}"),
            json!("A".repeat(10_000)),
        )
    };
    let annotations: serde_json::Map<_, _> = (0..390).map(annotation).collect();
    let mut set = DataSet::new(algorithm);
    set.image(&json!({"annotations": annotations}));
    set.tag("large-manifest")
}

pub(super) fn index(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    set.index(&json!({}));
    set.tag("index")
}

/// Nothing is tagged: the repository is one of digests only.
pub(super) fn untagged_index(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    set.index(&json!({}));
    set
}

/// The index is named by one algorithm, what it names by the other.
pub(super) fn mixed_index(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm.other());
    let children = [set.image(&json!({})), set.artifact(ARTIFACT, &json!({}))];
    let attached = attached(&children[0], 0);
    set.algorithm = algorithm;
    set.index_of(&children, &attached);
    set.tag("mixed")
}

pub(super) fn nested_index(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    let children = [set.index(&json!({})), set.index(&json!({}))];
    set.index_of(&children, &json!({}));
    set.tag("index-of-index")
}

pub(super) fn empty_index(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    set.index_of(&[], &json!({}));
    set.tag("index")
}

pub(super) fn artifact(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    set.artifact(ARTIFACT, &json!({}));
    set.tag("artifact")
}

pub(super) fn artifact_index(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    set.index(&json!({"artifactType": ARTIFACT}));
    set.tag("artifact-index")
}

/// Its only layer is the empty object that is its config, too.
pub(super) fn artifact_without_layers(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    let empty = set.blob(EMPTY, b"{}".to_vec());
    let fields = json!({"artifactType": ARTIFACT, "config": empty, "layers": [empty]});
    set.manifest(OCI_MANIFEST, &fields);
    set.tag("artifact-without-layers")
}

pub(super) fn artifacts_with_subject(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    let subject = set.image(&json!({}));
    set = set.tag("image");
    set.image(&json!({"subject": subject}));
    set.artifact(ARTIFACT, &attached(&subject, 1));
    set = set.tag("tagged-artifact1");
    set.artifact(OTHER_ARTIFACT, &attached(&subject, 2));
    set.tag("tagged-artifact2")
}

pub(super) fn index_with_subject(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    let subject = set.index(&json!({}));
    set = set.tag("index");
    // An index without an artifact type has none in the list either.
    set.index(&attached(&subject, 0));
    let mut more = attached(&subject, 1);
    more["artifactType"] = json!(ARTIFACT);
    set.index(&more);
    set.tag("tagged-artifact")
}

pub(super) fn missing_subject(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    let subject = set.describe(OCI_MANIFEST, b"missing content");
    set.artifact(ARTIFACT, &attached(&subject, 0));
    set.tag("tagged-artifact")
}

pub(super) fn data_field(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm).style(Style::Inline);
    set.index(&json!({}));
    set.tag("data-field")
}

pub(super) fn foreign_layers(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    let (config, mut layers) = set.parts(1);
    for (media_type, content) in [(FOREIGN_TAR_GZIP, "compressed"), (FOREIGN_TAR, "not")] {
        let mut layer = set.describe(media_type, content.as_bytes());
        let url = format!("https://store.example.com/blobs/{}", text(&layer["digest"]));
        layer["urls"] = json!([url]);
        layers.insert(0, layer);
    }
    set.manifest(OCI_MANIFEST, &json!({"config": config, "layers": layers}));
    set.tag("non-distributable-image")
}

pub(super) fn custom_fields(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm).style(Style::Custom);
    set.index(&json!({}));
    set.tag("custom-fields")
}

pub(super) fn no_layers(algorithm: Algorithm) -> DataSet {
    let mut set = DataSet::new(algorithm);
    let (config, layers) = set.parts(0);
    set.manifest(OCI_MANIFEST, &json!({"config": config, "layers": layers}));
    set.tag("no-layers")
}
