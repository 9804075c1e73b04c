//! containerd's own config.toml: where its CRI plugin, which Kubernetes asks, looks for hosts.toml.
//!
//! What is said where is from containerd's docs/hosts.md and docs/cri/config.md. Its plugin does not
//! start with `config_path` beside `mirrors` or `configs.NAME.tls`, and a kubelet without it starts
//! nothing: so those are conflicts.

use toml_edit::{DocumentMut, Item, Table, TableLike, Value, value};

use super::toml::{checked, parse};
use super::{Cri, MergeError, with_block};

const KEY: &str = "config_path";

/// The plugin, by the versions of the file: 1 until containerd 1.7, 2 from 1.3 on, 3 and 4 from 2.0
/// and 2.3 on.
const OLDEST: &str = "cri";
const OLD: &str = "io.containerd.grpc.v1.cri";
const NEW: &str = "io.containerd.cri.v1.images";

/// Beside our directory, what containerd 2.2 and later have where nothing is said.
const DEFAULT: &str = "/etc/docker/certs.d";

/// What `config_path` means.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    /// That our directory is read.
    Ours,
    /// Nothing that anybody has decided.
    Nothing,
    /// Something else, and what about it.
    Else(String),
}

impl Cri {
    /// The whole file: one that containerd 1 and 2 both read.
    pub(in crate::setup) fn text(&self) -> String {
        format!("version = 2\n\n{}", self.block(OLD))
    }

    fn block(&self, plugin: &str) -> String {
        let plugin = if plugin.contains('.') {
            format!("\"{plugin}\"")
        } else {
            plugin.to_owned()
        };
        let directory = &self.directory;
        format!("[plugins.{plugin}.registry]\n  {KEY} = \"{directory}\"\n")
    }

    pub(super) fn merged(&self, before: &str) -> Result<String, MergeError> {
        let mut document = parse(before)?;
        if is_off(&document) {
            return Ok(before.to_owned());
        }
        let plugin = plugin(&document).map_err(|it| MergeError::conflict(it, &self.block(OLD)))?;
        let block = self.block(plugin);
        let reads_lists = reads_lists(&document, plugin);
        let Some(item) = registry(&mut document, plugin) else {
            let text = with_block(before, &block);
            return checked(text, "plugins is not written as tables", &block);
        };
        let is_implicit = item.as_table().is_some_and(Table::is_implicit);
        let indent = indent(item);
        let conflict = |problem: String| MergeError::conflict(problem, &block);
        let Some(table) = item.as_table_like_mut() else {
            return Err(conflict("registry is not a table".to_owned()));
        };
        let there = table.get(KEY).map(Item::as_str);
        let says = match there {
            None => Says::Nothing,
            Some(Some(text)) => self.read(text, reads_lists),
            Some(None) => Says::Else(format!("{KEY} is not a text")),
        };
        match (says, in_the_way(table)) {
            (Says::Ours, None) => return Ok(before.to_owned()),
            (Says::Else(problem), _) | (_, Some(problem)) => return Err(conflict(problem)),
            (Says::Nothing, None) => {}
        }
        if there.is_none() && is_implicit {
            return checked(
                with_block(before, &block),
                "registry is not a table",
                &block,
            );
        }
        self.put(table, &indent);
        Ok(document.to_string())
    }

    fn read(&self, text: &str, reads_lists: bool) -> Says {
        let directories = text.split(':').map(|it| it.trim_end_matches('/'));
        let directories: Vec<&str> = directories.filter(|it| !it.is_empty()).collect();
        let ours = self.directory.as_str();
        match directories.as_slice() {
            [] => Says::Nothing,
            [only] if *only == ours => Says::Ours,
            all if !all.contains(&ours) => Says::Else(format!(
                "{KEY} is {text}, and larder's files are in {ours}: one of them has to move"
            )),
            _ if reads_lists => Says::Ours,
            // https://github.com/containerd/containerd/issues/12808: as the list is read, nothing is
            // found by it, not even in the second one.
            [first, DEFAULT] if *first == ours => Says::Nothing,
            _ => Says::Else(format!(
                "{KEY} is {text}, and containerd 2.1 and later take that for the name of one directory"
            )),
        }
    }

    /// Says it, with the comment that may stand behind it left where it is.
    fn put(&self, table: &mut dyn TableLike, indent: &str) {
        let mut ours = Value::from(self.directory.as_str());
        if let Some(Item::Value(there)) = table.get_mut(KEY) {
            *ours.decor_mut() = there.decor().clone();
            *there = ours;
            return;
        }
        table.insert(KEY, value(ours));
        if let Some(mut key) = table.key_mut(KEY) {
            key.leaf_decor_mut().set_prefix(indent);
        }
    }
}

/// Whether the plugin is not to be started at all, as in the file that Docker's packages bring.
fn is_off(document: &DocumentMut) -> bool {
    let disabled = document.get("disabled_plugins").and_then(Item::as_array);
    let mut disabled = disabled.into_iter().flatten().filter_map(Value::as_str);
    disabled.any(|name| [OLDEST, OLD, NEW].contains(&name))
}

/// The plugin that reads registries' settings, by the version of the file. Files of version 2 for
/// containerd 2 may have either.
fn plugin(document: &DocumentMut) -> Result<&'static str, String> {
    let has = |name: &str| {
        let plugins = document.get("plugins").and_then(Item::as_table_like);
        plugins.is_some_and(|plugins| plugins.contains_key(name))
    };
    match document.get("version").map(Item::as_integer) {
        None | Some(Some(0 | 1)) => Ok(OLDEST),
        Some(Some(2)) if has(NEW) && !has(OLD) => Ok(NEW),
        Some(Some(2)) => Ok(OLD),
        Some(Some(3 | 4)) => Ok(NEW),
        Some(Some(version)) => Err(format!("larder does not know version {version} of it")),
        Some(None) => Err("version is not a number".to_owned()),
    }
}

/// Whether a `config_path` of several directories is read as such. containerd 1 does it, and later ones
/// where they fetch images in the old way.
fn reads_lists(document: &DocumentMut, plugin: &str) -> bool {
    let plugins = document.get("plugins").and_then(Item::as_table_like);
    let settings = plugins.and_then(|it| it.get(plugin)?.as_table_like());
    let is_set = |key| settings.and_then(|it| it.get(key)?.as_bool()) == Some(true);
    plugin != NEW || is_set("use_local_image_pull") || is_set("discard_unpacked_layers")
}

fn registry<'a>(document: &'a mut DocumentMut, plugin: &str) -> Option<&'a mut Item> {
    let plugins = document.get_mut("plugins")?.as_table_like_mut()?;
    plugins
        .get_mut(plugin)?
        .as_table_like_mut()?
        .get_mut("registry")
}

/// How far the keys of a table are indented: two more than its header.
fn indent(item: &Item) -> String {
    let header = item.as_table().and_then(|table| table.decor().prefix());
    let header = header.and_then(|it| it.as_str()).unwrap_or_default();
    let header = header.rsplit('\n').next().unwrap_or_default();
    format!("{header}  ")
}

/// The old way to name mirrors, beside which containerd takes no `config_path`.
fn in_the_way(table: &dyn TableLike) -> Option<String> {
    let filled = |key: &str| {
        let inner = table.get(key).and_then(Item::as_table_like);
        inner.filter(|inner| !inner.is_empty())
    };
    let move_it = "containerd's CRI plugin does not start with both. Move what it says into hosts.toml files and remove it";
    if filled("mirrors").is_some() {
        return Some(format!("there are registry.mirrors, and {move_it}"));
    }
    let has_tls = |(_, host): (&str, &Item)| {
        let host = host.as_table_like();
        host.is_some_and(|host| host.contains_key("tls"))
    };
    let found = filled("configs").is_some_and(|configs| configs.iter().any(has_tls));
    found.then(|| format!("there is tls below registry.configs, and {move_it}"))
}
