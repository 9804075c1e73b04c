//! hosts.toml, registries.conf and buildkitd.toml, with their comments.
//!
//! What is new goes behind the end, as text; what must go into a table that is there is put there by
//! `toml_edit`, which keeps everything else as it was written.

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TableLike, value};

use super::{Buildkitd, Hosts, MergeError, Registries, Registry, with_block};

pub(super) fn parse(text: &str) -> Result<DocumentMut, MergeError> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        let offset = error.span().map_or(0, |span| span.start);
        let problem = error.message().replace('\n', ", ");
        MergeError::at(text, offset, format!("not valid TOML: {problem}"))
    })
}

/// The end result, if it is still TOML: a header behind the end of a file can contradict what stands
/// in it.
pub(super) fn checked(text: String, problem: &str, add: &str) -> Result<String, MergeError> {
    match parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(MergeError::conflict(problem, add)),
    }
}

/// The document, if a change was made to it; its text as it was otherwise.
fn written(document: &DocumentMut, is_changed: bool, before: &str) -> String {
    if is_changed {
        document.to_string()
    } else {
        before.to_owned()
    }
}

impl Hosts {
    pub(super) fn merged(&self, before: &str) -> Result<String, MergeError> {
        let mut document = parse(before)?;
        let block = self.block();
        let conflict = |problem: &str| MergeError::conflict(problem, &block);
        let mut is_changed = false;
        if !document.contains_key("server") {
            document.insert("server", value(&self.server));
            is_changed = true;
        }
        match document.get("host") {
            None => {
                let text = with_block(&written(&document, is_changed, before), &block);
                return checked(text, "larder cannot be added to its hosts", &block);
            }
            Some(Item::Table(hosts)) if !hosts.is_dotted() => {}
            Some(_) => return Err(conflict("host is not written as tables")),
        }
        let Some(hosts) = document["host"].as_table_mut() else {
            return Err(conflict("host is not written as tables"));
        };
        match hosts.get_mut(&self.url).map(Item::as_table_like_mut) {
            Some(Some(host)) => is_changed |= self.complete(host).map_err(|it| conflict(&it))?,
            Some(None) => return Err(conflict("its entry for larder is not a table")),
            None => {
                self.put_first(hosts);
                is_changed = true;
            }
        }
        Ok(written(&document, is_changed, before))
    }

    /// What an entry for larder lacks. Says whether that was anything.
    fn complete(&self, host: &mut dyn TableLike) -> Result<bool, String> {
        let mut is_changed = false;
        match host.get("capabilities").map(Item::as_array) {
            None => {
                host.insert("capabilities", value(capabilities()));
                is_changed = true;
            }
            Some(Some(list)) if ["pull", "resolve"].iter().all(|it| contains(list, it)) => {}
            Some(_) => return Err("its entry for larder lacks capabilities".to_owned()),
        }
        let Some(ca) = &self.ca else {
            return Ok(is_changed);
        };
        match host.get("ca") {
            None => {
                host.insert("ca", value(ca));
                Ok(true)
            }
            Some(there) if there.as_str() == Some(ca) => Ok(is_changed),
            Some(Item::Value(toml_edit::Value::Array(list))) if contains(list, ca) => {
                Ok(is_changed)
            }
            Some(_) => Err("its entry for larder has another ca".to_owned()),
        }
    }

    /// containerd asks the hosts in the order of the file.
    fn put_first(&self, hosts: &mut Table) {
        let mut own = Table::new();
        own.insert("capabilities", value(capabilities()));
        if let Some(ca) = &self.ca {
            own.insert("ca", value(ca));
        }
        for (mut key, _) in own.iter_mut() {
            key.leaf_decor_mut().set_prefix("  ");
        }
        own.decor_mut().set_prefix("\n");
        let names: Vec<String> = hosts.iter().map(|(name, _)| name.to_owned()).collect();
        let others: Vec<_> = names
            .iter()
            .filter_map(|name| hosts.remove_entry(name))
            .collect();
        hosts.insert(&self.url, Item::Table(own));
        for (key, item) in others {
            hosts.insert_formatted(&key, item);
        }
    }
}

fn capabilities() -> Array {
    Array::from_iter(["pull", "resolve"])
}

fn contains(list: &Array, text: &str) -> bool {
    list.iter().any(|item| item.as_str() == Some(text))
}

impl Registries {
    pub(super) fn merged(&self, before: &str) -> Result<String, MergeError> {
        let mut document = parse(before)?;
        if document.get("registries").is_some_and(Item::is_table_like) {
            return Err(MergeError::conflict(
                "it is in the old format, with [registries.search], which has no mirrors. Write unqualified-search-registries in its place first",
                &self.text(),
            ));
        }
        let mut is_changed = false;
        let mut missing = Vec::new();
        for wanted in &self.0 {
            let conflict = |problem: String| MergeError::conflict(problem, &wanted.block());
            let tables = match document.get_mut("registry") {
                None => {
                    missing.push(wanted.block());
                    continue;
                }
                Some(Item::ArrayOfTables(tables)) => tables,
                Some(_) => return Err(conflict("registry is not written as [[registry]]".into())),
            };
            let mut found = tables
                .iter_mut()
                .filter(|it| names(it) == Some(&wanted.location));
            let Some(table) = found.next() else {
                missing.push(wanted.block());
                continue;
            };
            is_changed |= wanted.complete(table).map_err(conflict)?;
        }
        let text = written(&document, is_changed, before);
        if missing.is_empty() {
            return Ok(text);
        }
        let block = missing.join("\n");
        let text = with_block(&text, &block);
        checked(text, "registries cannot be added behind its end", &block)
    }
}

/// The registry that an entry is about: its prefix, which is its location where it is not said.
fn names(table: &Table) -> Option<&str> {
    let prefix = table.get("prefix").and_then(Item::as_str);
    let location = table.get("location").and_then(Item::as_str);
    prefix.filter(|prefix| !prefix.is_empty()).or(location)
}

impl Registry {
    /// What an entry for this registry lacks. Says whether that was anything.
    fn complete(&self, table: &mut Table) -> Result<bool, String> {
        let location = &self.location;
        if table.get("blocked").and_then(Item::as_bool) == Some(true) {
            return Err(format!("{location} is blocked"));
        }
        let Some(mirror) = &self.mirror else {
            return self.allow_http(table);
        };
        let mut mirrors = match table.get_mut("mirror") {
            None => ArrayOfTables::new(),
            Some(Item::ArrayOfTables(mirrors)) => {
                let mut locations = mirrors.iter().map(|it| it.get("location"));
                let at = locations.position(|it| it.and_then(Item::as_str) == Some(mirror));
                drop(locations);
                if let Some(there) = at.and_then(|at| mirrors.get_mut(at)) {
                    return self.allow_http(there);
                }
                std::mem::take(mirrors)
            }
            Some(_) => {
                return Err(format!(
                    "the mirrors of {location} are not written as [[registry.mirror]]"
                ));
            }
        };
        let mut own = Table::new();
        own.insert("location", value(mirror));
        if self.insecure {
            own.insert("insecure", value(true));
        }
        // The mirrors are asked in the order of the file.
        let others = std::mem::take(&mut mirrors);
        mirrors.push(own);
        for other in others {
            mirrors.push(other);
        }
        table.insert("mirror", Item::ArrayOfTables(mirrors));
        Ok(true)
    }

    fn allow_http(&self, table: &mut Table) -> Result<bool, String> {
        let location = self.mirror.as_ref().unwrap_or(&self.location);
        match table.get("insecure").map(Item::as_bool) {
            _ if !self.insecure => Ok(false),
            Some(Some(true)) => Ok(false),
            Some(_) => Err(format!("insecure is not true for {location}")),
            None => {
                table.insert("insecure", value(true));
                Ok(true)
            }
        }
    }
}

impl Buildkitd {
    pub(super) fn merged(&self, before: &str) -> Result<String, MergeError> {
        let mut document = parse(before)?;
        let mut is_changed = false;
        let mut missing = Vec::new();
        for (name, mirror) in &self.mirrors {
            let block = Self::mirror_block(name, mirror);
            match entry(&mut document, name) {
                None => missing.push(block),
                Some(table) => {
                    let added = add_first(table, "mirrors", mirror);
                    is_changed |= added.map_err(|it| MergeError::conflict(it, &block))?;
                }
            }
        }
        if let Some(block) = self.own_block() {
            match entry(&mut document, &self.own) {
                None => missing.push(block),
                Some(table) => {
                    let added = self.complete(table);
                    is_changed |= added.map_err(|it| MergeError::conflict(it, &block))?;
                }
            }
        }
        let text = written(&document, is_changed, before);
        if missing.is_empty() {
            return Ok(text);
        }
        let block = missing.join("\n");
        let text = with_block(&text, &block);
        checked(text, "registry is not written as tables", &block)
    }

    fn complete(&self, table: &mut dyn TableLike) -> Result<bool, String> {
        let mut is_changed = false;
        if self.http {
            match table.get("http").map(Item::as_bool) {
                Some(Some(true)) => {}
                Some(_) => return Err(format!("http is not true for {}", self.own)),
                None => {
                    table.insert("http", value(true));
                    is_changed = true;
                }
            }
        }
        if let Some(ca) = &self.ca {
            is_changed |= add_first(table, "ca", ca)?;
        }
        Ok(is_changed)
    }
}

/// What is said about a registry.
fn entry<'a>(document: &'a mut DocumentMut, name: &str) -> Option<&'a mut dyn TableLike> {
    let registries = document.get_mut("registry")?.as_table_like_mut()?;
    registries.get_mut(name)?.as_table_like_mut()
}

/// A list with one more text in front. Says whether it was not there already.
fn add_first(table: &mut dyn TableLike, key: &str, text: &str) -> Result<bool, String> {
    let Some(item) = table.get_mut(key) else {
        table.insert(key, value(Array::from_iter([text])));
        return Ok(true);
    };
    let Some(list) = item.as_array_mut() else {
        return Err(format!("{key} is not a list"));
    };
    if contains(list, text) {
        return Ok(false);
    }
    let mut own = toml_edit::Value::from(text);
    if let Some(first) = list.get_mut(0) {
        let gap = first.decor().prefix().and_then(|it| it.as_str());
        let gap = gap.unwrap_or_default().to_owned();
        own.decor_mut().set_prefix(gap.as_str());
        if gap.is_empty() {
            first.decor_mut().set_prefix(" ");
        }
        list.insert_formatted(0, own);
    } else {
        list.push(text);
    }
    Ok(true)
}
