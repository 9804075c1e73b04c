//! Images made of nothing but files, in the form that `docker load` reads.

use std::fmt::Write as _;

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A file of an image: its path, without a leading slash, and its content.
pub(crate) type File<'a> = (&'a str, &'a [u8]);

/// An archive with one image. The same name and layers give the same image.
pub(super) fn docker_archive(name: &str, layers: &[&[File<'_>]]) -> Vec<u8> {
    let layers: Vec<Vec<u8>> = layers.iter().map(|files| tar(files)).collect();
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256(layer)))
        .collect();
    let paths: Vec<String> = (0..layers.len())
        .map(|index| format!("{index}/layer.tar"))
        .collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2000-01-01T00:00:00Z",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": vec![json!({ "created_by": "larder's tests" }); layers.len()],
    })
    .to_string();
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [name], "Layers": paths }]).to_string();
    let mut files: Vec<File<'_>> = vec![
        ("manifest.json", manifest.as_bytes()),
        ("config.json", config.as_bytes()),
    ];
    files.extend(
        paths
            .iter()
            .map(String::as_str)
            .zip(layers.iter().map(Vec::as_slice)),
    );
    tar(&files)
}

fn tar(files: &[File<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, path, *content)
            .expect("writing to memory");
    }
    archive.into_inner().expect("writing to memory")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            _ = write!(hex, "{byte:02x}");
            hex
        })
}
