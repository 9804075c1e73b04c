//! The manifests: what they say of the image, of each other, and to larder.

use serde_json::{Value, json};

use super::{configuration, read, yaml};
use crate::support::programs::Workshop;

/// The object of a kind; there is one of each.
fn object(all: &[Value], kind: &str) -> Value {
    let found: Vec<_> = all.iter().filter(|it| it["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0].clone()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut items = list.as_array().expect("a list").iter();
    items.find(|item| item["name"] == name).expect(name)
}

#[tokio::test]
async fn the_manifests_fit_each_other_the_image_and_larder() {
    let all = yaml(&read("packaging/kubernetes/larder.yaml"));
    let namespace = object(&all, "Namespace");
    let (map, service) = (object(&all, "ConfigMap"), object(&all, "Service"));
    let set = object(&all, "StatefulSet");
    for object in [&map, &service, &set] {
        assert_eq!(
            object["metadata"]["namespace"],
            namespace["metadata"]["name"]
        );
    }
    let pod = &set["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&service["spec"]["selector"], labels);
    assert_eq!(set["spec"]["serviceName"], service["metadata"]["name"]);
    // A data directory has one larder.
    assert_eq!(set["spec"]["replicas"], 1);

    let container = named(&pod["spec"]["containers"], "larder");
    let image = format!("larder:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], json!(image));
    let port = named(&container["ports"], "registry");
    assert_eq!(port["containerPort"], 5000);
    assert_eq!(
        named(&service["spec"]["ports"], "registry")["targetPort"],
        "registry"
    );
    let data = named(&container["volumeMounts"], "data");
    assert_eq!(data["mountPath"], "/var/lib/registry");
    let claims = &set["spec"]["volumeClaimTemplates"];
    assert_eq!(claims[0]["metadata"]["name"], "data");
    let mounted = named(&container["volumeMounts"], "config");
    let volume = named(&pod["spec"]["volumes"], "config");
    assert_eq!(volume["configMap"]["name"], map["metadata"]["name"]);
    let argument = container["args"][0].as_str().expect("a file");
    let directory = mounted["mountPath"].as_str().expect("a directory");
    let key = argument.strip_prefix(directory).expect("what is mounted");
    let text = map["data"][key.trim_start_matches('/')].as_str();

    let shop = Workshop::new();
    let config = configuration(&shop, text.expect("the configuration"), &[]).await;
    assert_eq!(config["http"]["addr"], ":5000");
    let root = &config["storage"]["filesystem"]["rootdirectory"];
    assert_eq!(root, &data["mountPath"]);
    assert!(config["upstreams"]["docker.io"].is_object());
}

#[test]
fn the_nodes_ask_the_port_that_the_service_has() {
    let all = yaml(&read("packaging/kubernetes/larder.yaml"));
    let service = object(&all, "Service");
    let port = &named(&service["spec"]["ports"], "registry")["nodePort"];
    let place = format!("http://127.0.0.1:{port}");
    let k3s = &yaml(&read("packaging/kubernetes/registries.yaml"))[0];
    assert_eq!(k3s["mirrors"]["*"]["endpoint"], json!([place]));
    let containerd = read("packaging/kubernetes/hosts.toml");
    assert!(containerd.contains(&format!("[host.\"{place}\"]")));
}
