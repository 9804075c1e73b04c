//! What every request goes through and what waits for nothing: reading a path, a range, a manifest
//! and a challenge. `make bench-pure`, or `cargo bench --bench pure -- NAME`.
#![expect(
    clippy::expect_used,
    reason = "a benchmark ends where it cannot measure"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use larder::oci::manifest::Manifest;
use larder::oci::{Digest, Hasher, MediaType, range, route};
use larder::upstream::challenge;

const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    routes(&mut criterion);
    ranges(&mut criterion);
    manifests(&mut criterion);
    challenges(&mut criterion);
    hashes(&mut criterion);
    criterion.final_summary();
}

fn routes(criterion: &mut Criterion) {
    let digest = Digest::of(b"");
    let blob = format!("/v2/library/nginx/blobs/{digest}");
    for (name, path, query) in [
        ("route: ping", "/v2/", None),
        (
            "route: manifest by tag",
            "/v2/library/nginx/manifests/1.27",
            None,
        ),
        ("route: blob", &*blob, None),
        (
            "route: blob, with a namespace",
            &*blob,
            Some("ns=docker.io"),
        ),
        ("route: nothing", "/favicon.ico", None),
    ] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| route::parse(black_box(path), black_box(query)));
        });
    }
}

fn ranges(criterion: &mut Criterion) {
    for (name, header) in [
        ("range: none", None),
        ("range: one", Some("bytes=1048576-2097151")),
        ("range: several", Some("bytes=0-1,2-3,4-5")),
    ] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| range::requested(black_box(header), 1 << 30));
        });
    }
}

fn manifests(criterion: &mut Criterion) {
    let media_type: MediaType = TYPE.parse().expect("a media type");
    let mut group = criterion.benchmark_group("manifest");
    for layers in [10, 100] {
        let manifest = manifest(layers);
        group.throughput(Throughput::Bytes(manifest.len() as u64));
        group.bench_function(format!("{layers} layers"), |bencher| {
            bencher.iter(|| Manifest::pushed(black_box(manifest.as_bytes()), Some(&media_type)));
        });
    }
    group.finish();
}

fn manifest(layers: u32) -> String {
    let descriptor = |kind: &str, number: u32| {
        let digest = Digest::of(&number.to_be_bytes());
        format!(
            "{{\"mediaType\":\"application/vnd.oci.image.{kind}\",\"digest\":\"{digest}\",\"size\":{number}}}"
        )
    };
    let config = descriptor("config.v1+json", 0);
    let layers: Vec<_> = (1..=layers)
        .map(|number| descriptor("layer.v1.tar+gzip", number))
        .collect();
    let layers = layers.join(",");
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{TYPE}\",\"config\":{config},\"layers\":[{layers}]}}"
    )
}

fn challenges(criterion: &mut Criterion) {
    let line = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:library/nginx:pull\"";
    criterion.bench_function("challenge", |bencher| {
        bencher.iter(|| challenge::choose([black_box(line)]));
    });
}

/// What a push and a fill take longest for.
fn hashes(criterion: &mut Criterion) {
    let bytes = vec![7; 1 << 20];
    let mut group = criterion.benchmark_group("sha256");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("1 MiB", |bencher| {
        let mut hasher = Hasher::new(larder::oci::Algorithm::Sha256);
        bencher.iter(|| hasher.update(black_box(&bytes)));
    });
    group.finish();
}
