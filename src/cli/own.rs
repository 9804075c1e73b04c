//! What this larder is called where images are named as they are pulled from it:
//! `localhost:5000/team/app:1` is `team/app:1`.

use crate::config::{Challenge, Config};
use crate::oci::Image;

use super::place::{self, Listening};

/// What people write before an image's name when they pull it from this larder.
pub(super) fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = config.http.host.iter().map(place::of_url).collect();
    let listed: &[String] = match &config.auth.challenge {
        Challenge::Hosts(hosts) => hosts,
        Challenge::Auto | Challenge::Always | Challenge::Never => &[],
    };
    names.extend(listed.iter().cloned());
    if let Some(Listening { port, .. }) = Listening::of(config) {
        let hosts = listed.iter().map(String::as_str);
        let hosts = hosts.filter(|host| !host.contains(':'));
        let hosts = ["localhost", "127.0.0.1"].into_iter().chain(hosts);
        names.extend(hosts.map(|host| format!("{host}:{port}")));
    }
    names
}

/// The images without it.
pub(super) fn strip(images: Vec<Image>, own: &[String]) -> Vec<Image> {
    let images = images.into_iter();
    images.map(|image| without(image, own)).collect()
}

fn without(mut image: Image, own: &[String]) -> Image {
    let is_own = |host: &str| own.iter().any(|name| name.eq_ignore_ascii_case(host));
    if image.target.host.as_deref().is_some_and(is_own) {
        image.target.host = None;
    } else if let (first, Some(rest)) = image.target.name.split_first()
        && image.target.host.is_none()
        && is_own(first)
    {
        image.target.name = rest;
    }
    image
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_larders_own_name_is_no_upstream() {
        let own = ["localhost:5000".to_owned(), "larder.lan".to_owned()];
        for (named, meant) in [
            ("localhost:5000/team/app:1", "team/app:1"),
            ("Larder.lan/python", "python:latest"),
            ("larder.lan/python", "python:latest"),
            ("localhost:5001/app", "localhost:5001/app:latest"),
            ("ghcr.io/larder.lan", "ghcr.io/larder.lan:latest"),
        ] {
            let Ok(image) = named.parse() else { continue };
            assert_eq!(without(image, &own).to_string(), meant);
        }
    }

    #[test]
    fn its_names_are_those_that_people_pull_by() {
        let text = "version: 0.1
http: { addr: ':5000', host: 'https://larder.lan' }
auth: { htpasswd: { realm: a, path: b }, challenge: [ class.lan, 'push.lan:80' ] }";
        let file = (Path::new("c.yml"), text.to_owned());
        let config = Config::load(Some(file), std::iter::empty()).unwrap();
        let expected = [
            "larder.lan",
            "class.lan",
            "push.lan:80",
            "localhost:5000",
            "127.0.0.1:5000",
            "class.lan:5000",
        ];
        assert_eq!(names(&config), expected);
    }
}
