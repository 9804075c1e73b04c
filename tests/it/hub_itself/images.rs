//! Images are what they say they are, from the manifest down to the file in a layer.

use std::io::Read as _;

use crate::support::image::{Image, sha256};

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn image_has_layers_that_unpack_to_what_its_config_lists() {
    let image = Image::random(7, &[5_000, 300_000]).oci();
    let manifest = json(&image.manifest_bytes());
    assert_eq!(manifest["mediaType"], image.media_type());
    let (config_digest, config) = image.blobs().remove(0);
    assert_eq!(manifest["config"]["digest"], *config_digest);
    assert_eq!(image.config_digest(), config_digest);
    let layers = image.blobs().split_off(1);
    assert_eq!(layers.len(), 2);
    for (at, (digest, bytes)) in layers.iter().enumerate() {
        assert_eq!(manifest["layers"][at]["digest"], **digest);
        assert_eq!(manifest["layers"][at]["size"], bytes.len());
        assert_eq!(
            (digest, &sha256(bytes)),
            (&image.layer_digests()[at], digest)
        );
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..])
            .read_to_end(&mut tar)
            .unwrap();
        assert_eq!(json(&config)["rootfs"]["diff_ids"][at], sha256(&tar));
        let mut archive = tar::Archive::new(&tar[..]);
        let names = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned());
        assert_eq!(
            names.collect::<Vec<_>>(),
            [std::path::PathBuf::from(format!("layer-{at}"))]
        );
    }
}

#[test]
fn image_is_as_large_as_it_was_asked_to_be_and_always_the_same() {
    let image = Image::uniform(1, 4, 1_000_000);
    let total = image.total_size();
    assert!((3_980_000..4_020_000).contains(&total), "{total}");
    assert_eq!(image.digest(), Image::uniform(1, 4, 1_000_000).digest());
    assert_ne!(image.digest(), Image::uniform(2, 4, 1_000_000).digest());
    let mut digests = image.layer_digests();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 4);
}

#[test]
fn image_index_lists_its_images_by_architecture() {
    let children = vec![
        (Image::random(1, &[10]), "amd64"),
        (Image::random(2, &[10]), "arm64"),
    ];
    let index = Image::index(children);
    assert!(index.media_type().contains("manifest.list"));
    let index = index.oci();
    let entries = &json(&index.manifest_bytes())["manifests"];
    for (at, (child, name)) in index.children().iter().zip(["amd64", "arm64"]).enumerate() {
        assert_eq!(entries[at]["digest"], child.digest());
        assert_eq!(entries[at]["mediaType"], child.media_type());
        assert_eq!(entries[at]["platform"]["architecture"], name);
        assert_eq!(json(&child.blobs()[0].1)["architecture"], name);
    }
    assert_eq!(index.config_digest(), index.children()[0].config_digest());
    assert_eq!((index.layer_digests().len(), index.blobs().len()), (2, 4));
}
