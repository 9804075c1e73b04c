//! `larder verify`: everything that is stored, read and checked, and mended if that is wanted.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::config::Platforms;
use crate::store::{Checked, Checking, Done, Fault, Finding, Progress, Standing, Store, Wrong};

use super::{ConfigOption, ready, say};

/// How many digests of what an image lacks are written out.
const FEW: usize = 3;

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder verify                          check ./larder-data
  larder verify -c config.yml            check the data directory that config.yml names
  larder verify --repair -c config.yml   the same, and mend what can be mended
  larder verify --offline python:3.12    can it be pulled with no network?
  larder verify --offline -f class.txt --platform linux/amd64 --platform linux/arm64
  larder verify --offline --deep         those under cache.warm, every byte read

Without --offline it reads every byte that is stored. The exit status is 1 if something local is damaged; damage \
in mirrors alone is reported with exit status 0, since it can be fetched again. With --offline the \
exit status is 0 if all images are ready, and 1 if not.")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Drop what is damaged in mirrors, so that it is fetched again, and put damaged local data
    /// aside
    #[arg(long, conflicts_with = "offline")]
    repair: bool,
    /// Say of images whether they can be pulled with no network
    #[arg(long)]
    offline: bool,
    /// Write what was found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ready: ready::Arguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.offline {
        return ready::run(&arguments.ready, &arguments.config, arguments.json);
    }
    if arguments.ready.names_any() {
        return Err(
            "images are verified with --offline; without it, all that is stored is".to_owned(),
        );
    }
    let config = arguments.config.load()?;
    let root = &config.storage.root;
    super::must_be_there(root)?;
    let store = open(root, arguments.repair)?;
    // Whoever serves from the same disk goes first.
    rustix::process::nice(10).ok();
    let checking = Checking {
        repair: arguments.repair,
        sparse: !config.validation.enabled || config.validation.platforms != Platforms::All,
    };
    let mut meter = Meter::new();
    let checked = store.check(checking, &mut |progress| meter.show(progress));
    meter.bar.finish_and_clear();
    let checked = checked.map_err(|error| format!("cannot check {}: {error}", root.display()))?;
    let report = if arguments.json {
        format!("{:#}\n", as_json(&checked))
    } else {
        as_text(&checked, arguments.repair)
    };
    // Whoever listened may have gone; what matters then is the exit status.
    drop(io::stdout().write_all(report.as_bytes()));
    match count(&checked, Standing::Local) {
        0 => Ok(()),
        local => Err(format!(
            "{local} of the findings concern local repositories, whose content is nowhere else: push what is damaged again, or delete it"
        )),
    }
}

fn open(root: &Path, repair: bool) -> Result<Store, String> {
    let opened = if repair {
        Store::open_to_repair(root)
    } else {
        Store::open_to_read(root)
    };
    opened.map_err(|error| error.to_string())
}

fn count(checked: &Checked, standing: Standing) -> usize {
    let findings = checked.findings.iter();
    findings.filter(|it| it.standing() == standing).count()
}

/// How far it is: a bar on a terminal, elsewhere a line for each tenth.
struct Meter {
    bar: ProgressBar,
    is_shown: bool,
    bytes: u64,
    tenth: u64,
}

impl Meter {
    fn new() -> Self {
        let is_shown = io::stderr().is_terminal();
        let target = if is_shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        Self {
            bar,
            is_shown,
            bytes: 0,
            tenth: 0,
        }
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Listed { files, bytes } => {
                self.bytes = bytes;
                if !self.is_shown {
                    say(&format!("checking {files} files, {}", HumanBytes(bytes)));
                }
                self.style("{spinner} {pos} repositories  {msg}");
            }
            Progress::Repository(name) => {
                self.bar.inc(1);
                self.bar.set_message(name.to_owned());
            }
            Progress::Read(bytes) => self.read(bytes),
            Progress::Manifests(count) => {
                self.style("{spinner} {pos} manifests");
                self.bar.set_position(count as u64);
            }
        }
    }

    fn read(&mut self, bytes: u64) {
        if self.bar.length() != Some(self.bytes) {
            self.bar.set_length(self.bytes);
            self.bar.reset();
            self.style(
                "{bar:30} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left",
            );
        }
        self.bar.set_position(bytes.min(self.bytes));
        let tenth = (bytes * 10).checked_div(self.bytes).unwrap_or(0).min(10);
        if tenth > self.tenth {
            self.tenth = tenth;
            if !self.is_shown {
                say(&format!("{tenth}0 % read"));
            }
        }
    }
}

fn as_text(checked: &Checked, repair: bool) -> String {
    let mut lines = Vec::new();
    for finding in &checked.findings {
        let standing = finding.standing().to_string();
        let (subject, names) = (subject(finding), names(finding));
        lines.push(format!("{standing:<7} {subject}{names}"));
        lines.push(format!("        {}", wrong(&finding.wrong)));
        lines.push(format!("        {}", advice(finding, repair)));
    }
    let counted = [
        (Standing::Local, "in local repositories"),
        (Standing::Mirror, "in mirrors"),
        (Standing::Nobody, "in what nobody uses"),
        (Standing::Note, "only worth a note"),
    ];
    let counted = counted.into_iter().filter_map(|(standing, place)| {
        let count = count(checked, standing);
        (count > 0).then(|| format!("{count} {place}"))
    });
    let counted: Vec<_> = counted.collect();
    let found = if counted.is_empty() {
        "nothing is wrong".to_owned()
    } else {
        format!("findings: {}", counted.join(", "))
    };
    let (files, bytes) = (checked.files, HumanBytes(checked.bytes));
    let repositories = checked.repositories;
    lines.push(format!(
        "checked {files} files ({bytes}) in {repositories} repositories; {found}"
    ));
    if count(checked, Standing::Mirror) > 0 && count(checked, Standing::Local) == 0 {
        let heals = "mirrors heal themselves: what is damaged is fetched again when it is pulled";
        lines.push(format!("nothing local is damaged; {heals}"));
    }
    lines.join("\n") + "\n"
}

fn subject(finding: &Finding) -> String {
    match (&finding.digest, finding.size) {
        (Some(digest), 0) => digest.to_string(),
        (Some(digest), size) => format!("{digest} ({})", HumanBytes(size)),
        (None, _) => match &finding.wrong {
            Wrong::Tag(tag) => format!("tag {tag}"),
            _ => "all of it".to_owned(),
        },
    }
}

fn names(finding: &Finding) -> String {
    if finding.sites.is_empty() {
        return String::new();
    }
    let names: Vec<_> = finding.sites.iter().map(|site| &*site.name).collect();
    let images = match finding.images.as_slice() {
        [] => String::new(),
        images => format!(" ({})", images.join(", ")),
    };
    format!(" in {}{images}", names.join(", "))
}

fn wrong(wrong: &Wrong) -> String {
    let some = |digests: &[crate::oci::Digest]| {
        let few: Vec<_> = digests.iter().take(FEW).map(ToString::to_string).collect();
        match digests.len().saturating_sub(FEW) {
            0 => few.join(", "),
            more => format!("{} and {more} more", few.join(", ")),
        }
    };
    match wrong {
        Wrong::Data(Fault::Damaged) => "its bytes are not those that its digest names".into(),
        Wrong::Data(Fault::Empty) => "its file is empty".into(),
        Wrong::Data(Fault::NotAFile) => "there is something else where its file should be".into(),
        Wrong::Data(Fault::Unreadable { reason, .. }) => format!("cannot be read: {reason}"),
        Wrong::Missing(aside) if aside.is_empty() => "linked, but its data is not there".into(),
        Wrong::Missing(aside) => format!(
            "linked, but its data is not there; put aside as {}",
            aside.join(", ")
        ),
        Wrong::Link => "its link is empty or cannot be read".into(),
        Wrong::Tag(_) => "what it names is empty or cannot be read".into(),
        Wrong::Dangling(tag) => {
            format!("the tag {tag} names it, but the repository does not have it")
        }
        Wrong::NotAManifest(reason) => format!("linked as a manifest, but is none: {reason}"),
        Wrong::Lacks(digests) => format!("the image is not whole: it lacks {}", some(digests)),
        Wrong::Sparse(digests) => format!(
            "an index without all that it lists, which validation.manifests.indexes allows: {}",
            some(digests)
        ),
        Wrong::Unlisted(reason) => reason.clone(),
    }
}

fn advice(finding: &Finding, repair: bool) -> String {
    match &finding.done {
        Some(Done::PutAside(name)) => {
            return format!("put aside as {name} in the same directory; push it again");
        }
        Some(Done::Dropped) => return "dropped".into(),
        Some(Done::Unlinked) => {
            return "removed, so that it is fetched again when it is pulled".into();
        }
        Some(Done::Changed) => {
            return "left alone, since somebody has just used or replaced it: run this again"
                .into();
        }
        Some(Done::Failed(reason)) => return format!("could not be mended: {reason}"),
        None => {}
    }
    let advice = match (&finding.wrong, finding.standing()) {
        (Wrong::Sparse(_), _) => "nothing need be done",
        (Wrong::Data(fault), _) if fault.is_denied() => "run this as the user that larder runs as",
        (Wrong::Unlisted(_), _) => "look at its permissions and at the disk",
        (Wrong::Data(_), Standing::Local) if !repair => {
            "push it again; with --repair its data is put aside, so that nobody gets it"
        }
        (_, Standing::Local) => "push it again, or delete it",
        (_, Standing::Mirror | Standing::Note) => {
            "fetched again when it is pulled; with --repair it is dropped now"
        }
        (_, Standing::Nobody) => "larder garbage-collect or --repair removes it",
    };
    advice.to_owned()
}

fn as_json(checked: &Checked) -> Value {
    let findings: Vec<_> = checked.findings.iter().map(finding_json).collect();
    json!({
        "files": checked.files,
        "bytes": checked.bytes,
        "repositories": checked.repositories,
        "local": count(checked, Standing::Local),
        "mirror": count(checked, Standing::Mirror),
        "unused": count(checked, Standing::Nobody),
        "notes": count(checked, Standing::Note),
        "findings": findings,
    })
}

fn finding_json(finding: &Finding) -> Value {
    let sites = finding.sites.iter();
    let sites: Vec<_> = sites
        .map(|site| json!({"name": site.name, "kind": site.kind.to_string()}))
        .collect();
    let (problem, digests) = match &finding.wrong {
        Wrong::Data(Fault::Damaged) => ("damaged", None),
        Wrong::Data(Fault::Empty) => ("empty", None),
        Wrong::Data(Fault::NotAFile) => ("notafile", None),
        Wrong::Data(Fault::Unreadable { .. }) => ("unreadable", None),
        Wrong::Missing(_) => ("missing", None),
        Wrong::Link => ("link", None),
        Wrong::Tag(_) => ("tag", None),
        Wrong::Dangling(_) => ("dangling", None),
        Wrong::NotAManifest(_) => ("notamanifest", None),
        Wrong::Lacks(digests) => ("incomplete", Some(digests)),
        Wrong::Sparse(digests) => ("sparse", Some(digests)),
        Wrong::Unlisted(_) => ("unlisted", None),
    };
    let lacks = digests.into_iter().flatten().map(ToString::to_string);
    let done = finding.done.as_ref().map(|done| match done {
        Done::PutAside(_) => "putaside",
        Done::Dropped => "dropped",
        Done::Unlinked => "removed",
        Done::Changed => "changed",
        Done::Failed(_) => "failed",
    });
    let aside = match (&finding.done, &finding.wrong) {
        (Some(Done::PutAside(name)), _) => vec![name.clone()],
        (_, Wrong::Missing(names)) => names.clone(),
        _ => Vec::new(),
    };
    json!({
        "standing": finding.standing().to_string(),
        "problem": problem,
        "said": wrong(&finding.wrong),
        "digest": finding.digest.as_ref().map(ToString::to_string),
        "size": finding.size,
        "repositories": sites,
        "images": finding.images,
        "lacks": lacks.collect::<Vec<_>>(),
        "done": done,
        "aside": aside,
    })
}
