//! The images of a compose file.
//!
//! It is here because YAML is: of a compose file only `services.*.image` is read. Variables are
//! what the caller says they are. Compose specification, "Interpolation".

use std::path::Path;

use super::notice::ConfigError;
use super::reader::quoted;
use super::source::{Node, Value, from_yaml};
use crate::oci::Image;

/// How deep defaults may lie in each other: `${A:-${B:-c}}` is two.
const DEEPEST: usize = 8;

/// What a compose file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    /// The images of its services, in its order; services may share one.
    pub images: Vec<Image>,
    /// The services that have no image: they are built.
    pub without: Vec<String>,
}

impl Compose {
    /// Reads the text of a compose file; `path` is what messages call it.
    ///
    /// `variable` is asked for the variables that the images' names contain. One that is not set and
    /// has no default is an error: the image would be another one.
    pub fn read(
        path: &Path,
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let tree = from_yaml(&path.display().to_string(), text)?;
        let mut compose = Self {
            images: Vec::new(),
            without: Vec::new(),
        };
        let Some(services) = tree.get("services") else {
            let problem = "it has no services: is it a compose file?";
            return Err(ConfigError::new(&tree.origin, "", problem));
        };
        let services = match &services.value {
            Value::Map(services) => services.as_slice(),
            Value::Null => &[],
            Value::Scalar(_) | Value::List(_) => {
                let problem = "must be services by their names";
                return Err(ConfigError::new(&services.origin, "services", problem));
            }
        };
        for (name, service) in services {
            let Some(node) = service.get("image").filter(|node| !node.is_blank()) else {
                compose.without.push(name.clone());
                continue;
            };
            let key = format!("services.{name}.image");
            let wrong = |problem: String| ConfigError::new(&node.origin, &key, problem);
            let image = image(node, variable).map_err(wrong)?;
            if !compose.images.contains(&image) {
                compose.images.push(image);
            }
        }
        Ok(compose)
    }
}

fn image(node: &Node, variable: &dyn Fn(&str) -> Option<String>) -> Result<Image, String> {
    let Value::Scalar(written) = &node.value else {
        return Err("must be an image's name".to_owned());
    };
    let name = interpolated(written, variable, DEEPEST)
        .map_err(|problem| format!("{}: {problem}", quoted(written)))?;
    let image = name.trim().parse();
    image.map_err(|error| format!("{} names no image: {error}", quoted(&name)))
}

/// The text with its variables replaced.
fn interpolated(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let end = closing_brace(after).ok_or("a ${ is never closed")?;
            out.push_str(&expanded(&after[..end], variable, depth)?);
            rest = &after[end + 1..];
        } else {
            let length = name_length(after);
            if length == 0 {
                return Err("a $ stands before no name; $$ means a $".to_owned());
            }
            out.push_str(&expanded(&after[..length], variable, depth)?);
            rest = &after[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// `[a-zA-Z_][a-zA-Z0-9_]*` at the beginning.
fn name_length(text: &str) -> usize {
    let mut bytes = text.bytes();
    if !bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
    {
        return 0;
    }
    1 + bytes
        .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
        .count()
}

/// Where the brace is closed that was opened just before.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if text[..at].ends_with('$') => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

/// What stands between the braces: a name, and what holds where it is not set or empty.
fn expanded(
    inside: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Result<String, String> {
    let depth = depth
        .checked_sub(1)
        .ok_or("defaults lie too deep in each other")?;
    let (name, rest) = inside.split_at(name_length(inside));
    if name.is_empty() {
        return Err("a ${ stands before no name".to_owned());
    }
    let value = variable(name);
    // A colon makes an empty value as good as none.
    let (rest, value) = match rest.strip_prefix(':') {
        Some(rest) => (rest, value.filter(|value| !value.is_empty())),
        None => (rest, value),
    };
    let unset = || {
        format!(
            "the variable {name} is not set: set it in the environment, or write the image's name"
        )
    };
    let mut rest = rest.chars();
    match (rest.next(), value) {
        (None, value) => value.ok_or_else(unset),
        (Some('-'), None) | (Some('+'), Some(_)) => interpolated(rest.as_str(), variable, depth),
        (Some('-' | '?'), Some(value)) => Ok(value),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) if rest.as_str().is_empty() => Err(unset()),
        (Some('?'), None) => Err(format!("the variable {name} is not set: {}", rest.as_str())),
        (Some(_), _) => Err(format!("${{{inside}}} is no variable")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Compose, String> {
        let variable = |name: &str| match name {
            "TAG" => Some("3.12".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Compose::read(Path::new("compose.yml"), text, &variable).map_err(|error| error.to_string())
    }

    #[test]
    fn images_are_named_and_what_is_built_is_left_out() {
        let text = "
x-common: &common { image: 'redis:${REDIS:-7}', restart: always }
services:
  web: { image: 'python:$TAG' }
  db: { image: 'postgres:${PG:-${MAJOR-16}}-alpine' }
  cache: { <<: *common }
  cache2: *common
  app: { build: . }
  named: { build: ., image: 'localhost:5000/team/app' }
  empty: { image: 'a:x${EMPTY:-1}${EMPTY-2}${TAG:+3}${NONE:+4}${TAG:?needed}' }
";
        let compose = read(text).unwrap();
        let images: Vec<_> = compose.images.iter().map(ToString::to_string).collect();
        let expected = [
            "python:3.12",
            "postgres:16-alpine",
            "redis:7",
            "localhost:5000/team/app:latest",
            "a:x133.12",
        ];
        assert_eq!(images, expected);
        assert_eq!(compose.without, ["app"]);
        assert_eq!(read("services:").unwrap().images, []);
    }

    #[test]
    fn what_cannot_be_known_is_named() {
        for (image, problem) in [
            ("a:${PORT}", "the variable PORT is not set"),
            ("a:$PORT", "the variable PORT is not set"),
            ("a:${PORT?}", "the variable PORT is not set: set it"),
            ("a:${PORT:?which port}", "not set: which port"),
            ("a:${PORT", "never closed"),
            ("a:${}", "before no name"),
            ("a:$", "before no name"),
            ("a:${TAG!x}", "is no variable"),
            ("A:$TAG", "names no image"),
        ] {
            let text = format!("services:\n  web:\n    image: '{image}'");
            let error = read(&text).unwrap_err();
            assert!(error.contains("services.web.image"), "{error}");
            assert!(error.starts_with("compose.yml:3: "), "{error}");
            assert!(error.contains(problem), "{image}: {error}");
        }
        for text in ["a: 1", "services: [a]", "", "services: [", "[]"] {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = "${A-".repeat(100) + &"}".repeat(100);
        let error = read(&format!("services: {{ a: {{ image: '{deep}' }} }}"));
        assert!(error.unwrap_err().contains("too deep"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a${}:?+_ é-]{0,40}") {
            let _ = interpolated(&text, &|_| Some("b".into()), DEEPEST);
            let plain = text.replace('$', "$$");
            prop_assert_eq!(interpolated(&plain, &|_| None, DEEPEST), Ok(text));
        }
    }
}
