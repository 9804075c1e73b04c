//! Writing what a client must be told into its files.
#![expect(
    clippy::disallowed_methods,
    reason = "the rule is about the tree; these files are the client's"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use similar::TextDiff;

use crate::setup::{ClientText, FileText, MergeError};

use super::super::say;

/// A file as it is, and as it is to be.
pub(super) struct Change {
    /// As it is shown.
    pub(super) path: PathBuf,
    /// Where it really is, if that is a link.
    target: PathBuf,
    before: Option<String>,
    after: String,
}

/// Why a file stays as it is.
pub(super) enum Problem {
    /// What is in it cannot be understood, or it cannot be reached.
    Unreadable(String),
    /// What it says is for a person to decide.
    Conflict(String),
}

impl From<Problem> for String {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Unreadable(text) => text,
            Problem::Conflict(text) => format!("{text}\n\nNothing has been changed"),
        }
    }
}

impl Change {
    pub(super) fn is_none(&self) -> bool {
        self.before.as_ref() == Some(&self.after)
    }

    /// Whether there is a file already.
    pub(super) fn is_there(&self) -> bool {
        self.before.is_some()
    }

    fn diff(&self) -> String {
        let before = self.before.as_deref().unwrap_or_default();
        let path = self.path.display().to_string();
        let old = match &self.before {
            Some(_) => path.clone(),
            None => "/dev/null".to_owned(),
        };
        let diff = TextDiff::from_lines(before, self.after.as_str());
        diff.unified_diff().header(&old, &path).to_string()
    }
}

/// What is to be done to a file.
pub(super) fn plan(file: &FileText, root: &Path) -> Result<Change, Problem> {
    let path = root.join(file.path.trim_start_matches('/'));
    let shown = path.display();
    let target = target(&path, root).map_err(Problem::Unreadable)?;
    let before = read(&target, &path).map_err(Problem::Unreadable)?;
    let after = file.merged(before.as_deref().unwrap_or_default());
    let after = after.map_err(|error| match error {
        MergeError::Unreadable { .. } => {
            Problem::Unreadable(format!("{shown}:{error}; nothing has been changed"))
        }
        MergeError::Conflict { .. } => Problem::Conflict(format!("{shown}: {error}")),
    })?;
    Ok(Change {
        path,
        target,
        before,
        after,
    })
}

/// A file's text, if there is one.
fn read(target: &Path, path: &Path) -> Result<Option<String>, String> {
    let shown = path.display();
    let bytes = match fs::read(target) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {shown}: {error}{}", hint(&error))),
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let text = String::from_utf8_lossy(valid);
        let line = text.matches('\n').count() + 1;
        let column = text.lines().last().map_or(0, |it| it.chars().count()) + 1;
        format!("{shown}:{line}:{column}: not UTF-8; nothing has been changed")
    });
    text.map(Some)
}

/// Where a file is that may be a link, which must not lead out of another root.
fn target(path: &Path, root: &Path) -> Result<PathBuf, String> {
    let is_link = path.symlink_metadata().is_ok_and(|it| it.is_symlink());
    if !is_link {
        return Ok(path.to_owned());
    }
    let wrong = |error: &dyn std::fmt::Display| {
        format!("{} is a link that leads nowhere: {error}", path.display())
    };
    let target = fs::canonicalize(path).map_err(|error| wrong(&error))?;
    let root = fs::canonicalize(root).map_err(|error| wrong(&error))?;
    if !target.starts_with(&root) {
        return Err(format!(
            "{} is a link to {}, which is not below {}",
            path.display(),
            target.display(),
            root.display()
        ));
    }
    Ok(target)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => {
            " (as root it can be)"
        }
        _ => "",
    }
}

/// What is to be done, and typed afterwards.
struct Plan {
    changes: Vec<Change>,
    commands: Vec<String>,
    /// What has to be done by hand.
    left: Vec<String>,
}

impl Plan {
    /// All files can be read and understood before the first is touched.
    fn of(text: &ClientText, root: &Path) -> Result<Self, String> {
        let changes = text.files.iter().map(|file| plan(file, root));
        let mut plan = Self {
            changes: changes.collect::<Result<_, Problem>>()?,
            commands: text.commands.clone(),
            left: Vec::new(),
        };
        for addition in &text.additions {
            match self::plan(&addition.file, root) {
                Ok(change) => plan.add(change, &addition.commands),
                // The client works without it for those who do not need it.
                Err(Problem::Conflict(left)) => plan.left.push(left),
                Err(problem) => return Err(problem.into()),
            }
        }
        Ok(plan)
    }

    fn add(&mut self, change: Change, commands: &[String]) {
        if !change.is_there() {
            return;
        }
        if !change.is_none() {
            self.commands.extend_from_slice(commands);
        }
        self.changes.push(change);
    }
}

/// Writes what is to be written, after showing it and asking.
pub(super) fn apply(text: &ClientText, root: &Path, yes: bool) -> Result<(), String> {
    let Plan {
        changes,
        commands,
        left,
    } = Plan::of(text, root)?;
    let mut out = io::stdout();
    for change in &changes {
        let line = if change.is_none() {
            format!("{} says so already\n", change.path.display())
        } else {
            change.diff()
        };
        // Whoever listened may have gone; who asked for it gets it all the same.
        drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
    }
    let changes: Vec<_> = changes.iter().filter(|change| !change.is_none()).collect();
    if !changes.is_empty() {
        if !yes && !is_wanted()? {
            return Err("nothing has been changed".to_owned());
        }
        for change in changes {
            let kept = write(change)?;
            let path = change.path.display();
            say(&match kept {
                Some(copy) => format!("wrote {path}; what was there is {}", copy.display()),
                None => format!("wrote {path}"),
            });
        }
        if !commands.is_empty() {
            say("then:");
        }
        for command in &commands {
            say(&format!("  {command}"));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(format!("this is left to you:\n\n{}", left.join("\n\n")))
}

fn is_wanted() -> Result<bool, String> {
    if !io::stdin().is_terminal() {
        return Err(
            "nothing has been changed: nobody can be asked here, so say --yes if that is what you want"
                .to_owned(),
        );
    }
    drop(write!(io::stderr(), "Write this? [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.map_err(|error| format!("no answer: {error}"))?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Writes one file, there whole or not at all. Says where the copy of what was there is.
fn write(change: &Change) -> Result<Option<PathBuf>, String> {
    let path = change.path.display();
    let wrong = |error: io::Error| format!("cannot write {path}: {error}{}", hint(&error));
    let now = match fs::read_to_string(&change.target) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(wrong(error)),
    };
    if now != change.before {
        return Err(format!(
            "{path} has just been changed by somebody else: try again"
        ));
    }
    let directory = change.target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(wrong)?;
    let metadata = fs::metadata(&change.target).ok();
    let copy = match &change.before {
        Some(before) => Some(keep(&change.target, before, metadata.as_ref()).map_err(wrong)?),
        None => None,
    };
    let part = beside(&change.target, ".larder-part");
    let written = create(&part, &change.after, metadata.as_ref(), false)
        .and_then(|()| fs::rename(&part, &change.target))
        .and_then(|()| File::open(directory)?.sync_all());
    if let Err(error) = written {
        drop(fs::remove_file(&part));
        // Of what has not been changed nobody needs a copy.
        drop(copy.map(fs::remove_file));
        return Err(wrong(error));
    }
    Ok(copy)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// A copy of what was there, which replaces no other.
fn keep(path: &Path, text: &str, like: Option<&fs::Metadata>) -> io::Result<PathBuf> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let now = now.replace([':', '-'], "");
    for number in 0..100 {
        let number = match number {
            0 => String::new(),
            number => format!("-{number}"),
        };
        let copy = beside(path, &format!(".before-larder-{now}{number}"));
        match create(&copy, text, like, true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| copy),
        }
    }
    Err(io::Error::other("there are too many copies of it"))
}

/// A file with the owner and the rights of another.
fn create(path: &Path, text: &str, like: Option<&fs::Metadata>, is_new: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o644);
    if is_new {
        options.create_new(true);
    } else {
        // What an attempt left behind that was killed.
        options.create(true).truncate(true);
    }
    let mut file = options.open(path)?;
    if let Some(like) = like {
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
        // Only root can give a file away, and whoever is not has made it as his own.
        drop(std::os::unix::fs::fchown(
            &file,
            Some(like.uid()),
            Some(like.gid()),
        ));
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
