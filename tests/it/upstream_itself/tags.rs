//! Lists of tags.

use larder::oci::RepositoryName;

use super::{MANIFEST, TYPE, misbehaves, name, upstream};
use crate::support::hub::{Fault, Hub, Kind, What, Where};

#[tokio::test]
async fn all_pages_of_tags_are_read() {
    let hub = Hub::start().await;
    for n in 0..2500 {
        hub.put_manifest("a/b", Some(&format!("v{n:04}")), TYPE, MANIFEST);
    }
    let upstream = upstream(&hub);
    let tags = upstream.list_tags(&name("a/b")).await.unwrap();
    assert_eq!((tags.len(), tags[2499].as_str()), (2500, "v2499"));
    assert_eq!(hub.asked().len(), 3);

    let list = async |name: RepositoryName| upstream.list_tags(&name).await;
    let fault = |what| hub.fault(Fault::on(Where::kind(Kind::Tags)).does(what).times(1));
    let link = |to: &str| What::Header("link", format!("<{to}>; rel=\"next\""));
    hub.put_manifest("c/d", Some("one"), TYPE, MANIFEST);
    fault(link("http://127.0.0.2/v2/"));
    misbehaves(list(name("c/d")).await, "elsewhere");
    fault(link("https://127.0.0.1:1/v2/a/b/tags/list?last=v2497"));
    assert_eq!(list(name("c/d")).await.unwrap().len(), 3);
    fault(What::Body(br#"{"tags":null}"#.to_vec()));
    assert_eq!(list(name("c/d")).await, Ok(Vec::new()));
    fault(What::Body(br#"{"tags":["a","-no tag-","b"]}"#.to_vec()));
    assert_eq!(list(name("c/d")).await.unwrap().len(), 2);
    fault(What::Endless);
    misbehaves(list(name("c/d")).await, "more than");
    fault(What::Html);
    misbehaves(list(name("c/d")).await, "HTML");
    fault(What::Body(b"{}x".to_vec()));
    misbehaves(list(name("c/d")).await, "no JSON");

    // Pages that lead to one another, for ever.
    hub.clear_log();
    hub.fault(Fault::on(Where::kind(Kind::Tags).query("n=2")).does(link("?n=1")));
    hub.fault(Fault::on(Where::kind(Kind::Tags)).does(link("?n=2")));
    misbehaves(list(name("c/d")).await, "more than 1000 pages");
    assert_eq!(hub.asked().len(), 1000);
}
