//! `REGISTRY_A_B_C`: variables, and the rules by which each finds its place in the tree.
//!
//! What Distribution accepts works, and what makes it panic or loses the value works too. Knows no
//! key by name but those that a variable calls otherwise than the file does.

use super::Level;
use super::auth;
use super::notice::{ConfigError, Notes};
use super::source::{Node, Origin, Value, parse};

/// Distribution looks for the names of its own structures, which are not always the file's:
/// section, name in a variable, name in the file.
const OTHER_NAMES: [(&str, &str, &str); 4] = [
    ("health", "filecheckers", "file"),
    ("health", "httpcheckers", "http"),
    ("health", "tcpcheckers", "tcp"),
    ("notifications", "eventconfig", "events"),
];

/// Puts every `REGISTRY_*` variable of `env` in its place in the tree below `root`.
///
/// Parents come before their children, so that a variable for a whole section does not undo one for a
/// key in it; and items of a list in the order of their numbers, 10 after 9.
pub(super) fn apply_environment(
    root: &mut Node,
    env: impl Iterator<Item = (String, String)>,
    notes: &Notes,
) -> Result<(), ConfigError> {
    // Distribution reads the version from the file alone, and the path is for the command line.
    const NOT_KEYS: [&str; 2] = ["REGISTRY_CONFIGURATION_PATH", "REGISTRY_VERSION"];
    let mut variables: Vec<(Vec<Piece>, String, String)> = env
        .filter(|(name, _)| !NOT_KEYS.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((path(name.strip_prefix("REGISTRY_")?), name, value)))
        .collect();
    variables.sort();
    for (path, name, value) in variables {
        let origin = Origin::Env(name.as_str().into());
        if is_kubernetes(&name, &value) {
            let text = "not a setting but what Kubernetes tells about a service: ignored";
            notes.add(Level::Info, &origin, text);
            continue;
        }
        if name == "REGISTRY_AUTH_FILE" {
            let text = "where podman and skopeo keep their logins, and no setting of ours: ignored";
            notes.add(Level::Info, &origin, text);
            continue;
        }
        if path.len() > DEEPEST || path.iter().any(|piece| piece.text.is_empty()) {
            notes.add(Level::Warn, &origin, "not the name of a key: ignored");
            continue;
        }
        let mut new = from_variable(&value, &origin);
        if matches!(path.as_slice(), [piece] if piece.text == "auth") {
            keep_rules(root, &mut new);
        }
        set(root, &path, new).map_err(|problem| ConfigError::new(&origin, "", problem))?;
    }
    Ok(())
}

/// No key is anywhere near as deep; a limit keeps recursion over the tree harmless.
const DEEPEST: usize = 32;

/// The place that the rest of a variable's name means.
fn path(name: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = name.split('_').map(Piece::new).collect();
    if let [section, key, ..] = pieces.as_mut_slice() {
        let other = OTHER_NAMES
            .iter()
            .find(|(parent, name, _)| *parent == section.text && *name == key.text);
        if let Some((_, _, name)) = other {
            *key = Piece::new(name);
        }
    }
    pieces
}

/// Whether a variable is one of those that Kubernetes makes for each service, here for one whose name
/// begins with `registry`: `REGISTRY_SERVICE_HOST`, `REGISTRY_STORAGE_PORT=tcp://…`, `…_PORT_5000_TCP_ADDR`.
fn is_kubernetes(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    const PARTS: [&str; 3] = ["ADDR", "PORT", "PROTO"];
    let pieces: Vec<&str> = name.split('_').collect();
    match pieces.as_slice() {
        [.., "SERVICE", "HOST" | "PORT"] => true,
        [.., "PORT"] if value.contains("://") => true,
        [.., "PORT", port, protocol] | [.., "PORT", port, protocol, _]
            if port.parse::<u16>().is_ok() && PROTOCOLS.contains(protocol) =>
        {
            let last = pieces.last().copied().unwrap_or_default();
            last == *protocol || PARTS.contains(&last)
        }
        _ => name.contains("_SERVICE_PORT_"),
    }
}

/// `REGISTRY_AUTH=htpasswd` chooses a scheme and replaces the section, as in Distribution. What the file says
/// about who may do what stays: losing it would open what is meant to be closed.
fn keep_rules(root: &Node, new: &mut Node) {
    let mut map = new.value.clone().into_map(&new.origin);
    let Some(Value::Map(old)) = root.get("auth").map(|auth| &auth.value) else {
        return;
    };
    if map.iter().all(|(scheme, _)| scheme == "none") {
        return;
    }
    for (key, node) in old {
        if auth::OURS.contains(&key.as_str()) && !map.iter().any(|(other, _)| other == key) {
            map.push((key.clone(), node.clone()));
        }
    }
    new.value = Value::Map(map);
    new.verbatim = None;
}

/// One `_`-separated piece of a variable's name; numbers sort by value.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    index: Option<usize>,
    text: String,
}

impl Piece {
    fn new(text: &str) -> Self {
        Self {
            index: text.parse().ok().filter(|_| !text.starts_with('+')),
            text: text.to_ascii_lowercase(),
        }
    }
}

/// The value of a variable: YAML if it is YAML, else the text itself. So `@abc`, which is an error in
/// YAML, and `#abc`, which is a comment, can be passwords.
fn from_variable(value: &str, origin: &Origin) -> Node {
    let text = || Node::new(Value::Scalar(value.trim().to_owned()), origin.clone());
    let nothing = matches!(value.trim(), "" | "~" | "null" | "Null" | "NULL");
    let quoted = value.trim_start().starts_with(['"', '\'']);
    let mut node = match parse(value, &|_| origin.clone()) {
        // `|` and `>` begin a text of which there is nothing.
        Ok(node) if node.value == Value::Scalar(String::new()) && !quoted => text(),
        Ok(node) if node.value != Value::Null || nothing => node,
        Ok(_) | Err(_) => text(),
    };
    node.verbatim = Some(value.into());
    node
}

/// Sets the node at `path` below `node`, making what is missing on the way.
fn set(node: &mut Node, path: &[Piece], new: Node) -> Result<(), String> {
    let Some((piece, rest)) = path.split_first() else {
        *node = new;
        return Ok(());
    };
    // Only `_0` starts a list: Kubernetes sets REGISTRY_PORT_5000_TCP for a service called registry.
    if matches!(node.value, Value::Null) && piece.index == Some(0) {
        node.value = Value::List(Vec::new());
    }
    node.verbatim = None;
    if let (Value::List(items), Some(index)) = (&mut node.value, piece.index) {
        let length = items.len();
        if index == length {
            items.push(Node::new(Value::Null, new.origin.clone()));
        }
        return match items.get_mut(index) {
            Some(item) => set(item, rest, new),
            None => Err(format!(
                "the list has {length} items so far: the next one is number {length}, not {index}"
            )),
        };
    }
    let mut map = std::mem::replace(&mut node.value, Value::Null).into_map(&node.origin);
    // Distribution matches existing keys in any case: `Access-Control-Allow-Origin` in the file is the
    // header a variable means, whatever its case.
    let at = map
        .iter()
        .position(|(key, _)| key.eq_ignore_ascii_case(&piece.text));
    let index = at.unwrap_or(map.len());
    if at.is_none() {
        let missing = Node::new(Value::Null, new.origin.clone());
        map.push((piece.text.clone(), missing));
    }
    set(&mut map[index].1, rest, new)?;
    node.value = Value::Map(map);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::source::from_yaml;
    use super::*;

    fn tree(text: &str, env: &[(&str, &str)]) -> Result<String, String> {
        let notes = Notes::default();
        let mut root = from_yaml("c.yml", text).map_err(|error| error.to_string())?;
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        apply_environment(&mut root, env, &notes).map_err(|error| error.to_string())?;
        Ok(root.to_string())
    }

    type Env = &'static [(&'static str, &'static str)];

    const VARIABLES: [(&str, Env, &str); 15] = [
        (
            "a: {b: 1}",
            &[("REGISTRY_A_B", "2"), ("OTHER_A", "3")],
            "{a: {b: 2}}",
        ),
        (
            "a: {b: 1}",
            &[("REGISTRY_A_C_D", "true")],
            "{a: {b: 1, c: {d: true}}}",
        ),
        // Parents first, whatever the order they are given in.
        (
            "",
            &[("REGISTRY_S_F_R", "/x"), ("REGISTRY_S", "f")],
            "{s: {f: {r: /x}}}",
        ),
        ("s: {d: 1}", &[("REGISTRY_S", "f")], "{s: f}"),
        (
            "l: [a]",
            &[("REGISTRY_L_0", "x"), ("REGISTRY_L_1", "y")],
            "{l: [x, y]}",
        ),
        (
            "",
            &[("REGISTRY_L_0_N", "x"), ("REGISTRY_L_1_N", "y")],
            "{l: [{n: x}, {n: y}]}",
        ),
        (
            "",
            &[("REGISTRY_P", "x"), ("REGISTRY_P_5000_A", "y")],
            "{p: {x: ~, 5000: {a: y}}}",
        ),
        (
            "h: {X-A: [1]}",
            &[("REGISTRY_H_x-a", "[2]")],
            "{h: {X-A: [2]}}",
        ),
        (
            "",
            &[("REGISTRY_U_DOCKER.IO_USERNAME", "me")],
            "{u: {docker.io: {username: me}}}",
        ),
        (
            "a: 1",
            &[
                ("REGISTRY_A", "@abc"),
                ("REGISTRY_B", "#c"),
                ("REGISTRY_C", ""),
            ],
            "{a: @abc, b: #c, c: ~}",
        ),
        // Names of Distribution's structures.
        (
            "",
            &[
                ("REGISTRY_HEALTH_FILECHECKERS_0_FILE", "/x"),
                ("REGISTRY_HEALTH_HTTPCHECKERS_0_URI", "u"),
                ("REGISTRY_HEALTH_TCPCHECKERS_0_ADDR", "a"),
                (
                    "REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES",
                    "true",
                ),
            ],
            "{health: {file: [{file: /x}], http: [{uri: u}], tcp: [{addr: a}]}, \
             notifications: {events: {includereferences: true}}}",
        ),
        // What Kubernetes sets for services called registry, registry-storage and registry-upstreams.
        (
            "",
            &[
                ("REGISTRY_SERVICE_HOST", "10.0.0.1"),
                ("REGISTRY_SERVICE_PORT_HTTP_ALT", "80"),
                ("REGISTRY_PORT", "tcp://10.0.0.1:80"),
                ("REGISTRY_PORT_80_TCP", "tcp://10.0.0.1:80"),
                ("REGISTRY_PORT_80_TCP_PROTO", "tcp"),
                ("REGISTRY_STORAGE_SERVICE_HOST", "10.0.0.1"),
                ("REGISTRY_UPSTREAMS_PORT_80_UDP_ADDR", "10.0.0.1"),
            ],
            "~",
        ),
        // A scheme replaces the other one, and leaves the rules.
        (
            "auth: {token: {realm: r}, rules: [x]}",
            &[
                ("REGISTRY_AUTH_HTPASSWD_PATH", "/p"),
                ("REGISTRY_AUTH", "htpasswd"),
            ],
            "{auth: {htpasswd: {path: /p}, rules: [x]}}",
        ),
        (
            "auth: {token: {realm: r}, rules: [x]}",
            &[("REGISTRY_AUTH", "none")],
            "{auth: none}",
        ),
        (
            "auth: {rules: [x], challenge: never}",
            &[("REGISTRY_AUTH", "{htpasswd: {path: /p}, rules: [y]}")],
            "{auth: {htpasswd: {path: /p}, rules: [y], challenge: never}}",
        ),
    ];

    #[test]
    fn variables_find_their_place() {
        for (text, env, expected) in VARIABLES {
            assert_eq!(tree(text, env).as_deref(), Ok(expected));
        }
        let many: Vec<_> = (0..12)
            .map(|i| (format!("REGISTRY_L_{i}"), i.to_string()))
            .collect();
        let env: Vec<_> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = "{l: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}";
        assert_eq!(tree("", &env).as_deref(), Ok(expected));
        let gap = tree("l: [a]", &[("REGISTRY_L_2", "x")]).expect_err("a gap");
        assert!(
            gap.starts_with("REGISTRY_L_2: the list has 1 items"),
            "{gap}"
        );
    }
}
