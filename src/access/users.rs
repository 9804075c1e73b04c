//! The htpasswd file: read again when it changes.
//!
//! On use, at most once a second, the file is looked at; if it is another, or was written, it is read
//! again. Until something readable is there, the users of before stay: a file that is being replaced
//! locks nobody out. A file that is *empty* counts only after it was so for some seconds, since one
//! that is truncated and then written is empty for a moment.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use super::error::AccessError;
use super::htpasswd::{BadLine, Flaw, Users, parse};
use super::provision;

/// Between two looks at the file.
const PAUSE: Duration = Duration::from_secs(1);
/// A file that was changed no longer ago may be changed again without a trace: times are as coarse as
/// the kernel's clock.
const FRESH: Duration = Duration::from_secs(2);
/// For so long an empty file is taken for one that is being written.
const PATIENCE: Duration = Duration::from_secs(2);
/// Larger files are not read: a hundred thousand users fit.
const LARGEST: u64 = 16 << 20;
/// So many bad lines are named, then they are counted.
const NAMED: usize = 20;

/// The file and its users.
pub(super) struct UserFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None`: never was anything readable there.
    users: Option<Arc<Users>>,
    bad: Vec<BadLine>,
    /// What the content was read from, once it cannot change unseen any more.
    stamp: Option<Stamp>,
    /// Since when the file is empty although there are users.
    blank: Option<SystemTime>,
    /// What was last complained about.
    complaint: Option<String>,
    looked: Option<Instant>,
}

/// What tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    file: (u64, u64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
            file: (metadata.dev(), metadata.ino()),
        }
    }

    /// Whether a change from now on would show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        now.saturating_sub(FRESH) > Duration::from_secs(changed.saturating_add(1))
    }
}

impl UserFile {
    /// Reads the file; makes it, if there is none.
    ///
    /// A directory in its place is no error, since Debian's own configuration has one: nobody gets in.
    pub(super) fn open(path: PathBuf, now: SystemTime) -> Result<Self, AccessError> {
        let file = Self {
            path,
            state: Mutex::default(),
        };
        match read(&file.path) {
            Ok((stamp, bytes)) => file.take(stamp, &bytes, now),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                provision::make(&file.path).map_err(|error| AccessError::MakeUsers {
                    path: file.path.clone(),
                    what: error.to_string(),
                })?;
                file.look(now);
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                tracing::error!(
                    "auth.htpasswd.path: {} is a directory, so that nobody can log in: set it to a file with a line for each user, as `htpasswd -nB USER` prints it",
                    file.path.display()
                );
                file.lock().complaint = Some(error.to_string());
            }
            Err(error) => {
                return Err(AccessError::ReadUsers {
                    what: error.to_string(),
                    path: file.path,
                });
            }
        }
        Ok(file)
    }

    /// The users as of now; `None` if there never was a readable file.
    ///
    /// Only one caller looks at the file, the others go on with what is known.
    pub(super) async fn current(self: &Arc<Self>, now: Instant) -> Option<Arc<Users>> {
        if self.is_due(now) {
            let file = Arc::clone(self);
            let looked = tokio::task::spawn_blocking(move || file.look(SystemTime::now()));
            if let Err(error) = looked.await {
                tracing::error!("cannot look at {}: {error}", self.path.display());
            }
        }
        self.lock().users.clone()
    }

    /// For tests, which do not wait for a second to pass.
    #[cfg(test)]
    pub(super) fn look_at_next_question(&self) {
        self.lock().looked = None;
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let last = state.looked;
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        if due {
            state.looked = Some(now);
        }
        due
    }

    fn look(&self, now: SystemTime) {
        let known = self.lock().stamp;
        if let Some(known) = known
            && std::fs::metadata(&self.path).is_ok_and(|metadata| Stamp::of(&metadata) == known)
        {
            return;
        }
        match read(&self.path) {
            Ok((stamp, bytes)) => self.take(stamp, &bytes, now),
            Err(error) => self.keep(&error.to_string()),
        }
    }

    /// What was read counts, unless it looks like a file that is still being written.
    fn take(&self, stamp: Stamp, bytes: &[u8], now: SystemTime) {
        let (users, bad) = parse(bytes);
        let mut state = self.lock();
        let had_some = state.users.as_ref().is_some_and(|users| !users.is_empty());
        if users.is_empty() && had_some {
            // One user whose hash cannot be used is a user all the same: the others were removed.
            let names_one = |line: &BadLine| matches!(line.flaw, Flaw::NotBcrypt | Flaw::Cost(_));
            if !bad.is_empty() && !bad.iter().any(names_one) {
                drop(state);
                return self.keep("not one line of it is a user's");
            }
            let since = *state.blank.get_or_insert(now);
            if now.duration_since(since).unwrap_or_default() < PATIENCE {
                return;
            }
        }
        state.blank = None;
        state.complaint = None;
        state.stamp = stamp.is_settled(now).then_some(stamp);
        // What is not settled yet is read several times.
        let news = state.users.as_deref() != Some(&users) || state.bad != bad;
        if news {
            self.report(&users, &bad, state.users.is_none());
            state.users = Some(Arc::new(users));
            state.bad = bad;
        }
    }

    fn keep(&self, complaint: &str) {
        let mut state = self.lock();
        state.stamp = None;
        if state.complaint.as_deref() == Some(complaint) {
            return;
        }
        state.complaint = Some(complaint.to_owned());
        let path = self.path.display();
        if state.users.is_some() {
            tracing::warn!("{path} cannot be used: {complaint}; the users read before stay");
        } else {
            tracing::error!("{path} cannot be used: {complaint}; nobody can log in");
        }
    }

    fn report(&self, users: &Users, bad: &[BadLine], first: bool) {
        let path = self.path.display();
        for BadLine { number, flaw } in bad.iter().take(NAMED) {
            tracing::warn!("{path}, line {number} is skipped: {flaw}");
        }
        if let Some(more) = bad.len().checked_sub(NAMED).filter(|more| *more > 0) {
            tracing::warn!("{path}: {more} more lines are skipped");
        }
        if users.is_empty() {
            tracing::warn!("{path} names no user, so that nobody can log in");
        } else if !first {
            tracing::info!(users = users.len(), "{path} has changed, and was read");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a file whole. Symbolic links are followed: Kubernetes mounts secrets that way.
fn read(path: &Path) -> io::Result<(Stamp, Vec<u8>)> {
    // A pipe would be waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok((Stamp::of(&metadata), bytes))
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::fs::symlink;

    const HASH: &str = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";

    /// A file in a directory of its own, and a clock that the test moves.
    struct Case {
        directory: tempfile::TempDir,
        now: SystemTime,
    }

    impl Case {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                now: SystemTime::now(),
            }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("htpasswd")
        }

        fn write(&self, names: &[&str]) {
            std::fs::write(self.path(), lines(names)).unwrap();
        }

        fn open(&self) -> UserFile {
            UserFile::open(self.path(), self.now).unwrap()
        }

        /// Some time later, somebody asks.
        fn names(&mut self, file: &UserFile) -> Vec<String> {
            self.now += Duration::from_secs(1);
            file.look(self.now);
            known(file)
        }
    }

    fn lines(names: &[&str]) -> String {
        let lines = names.iter().map(|name| format!("{name}:{HASH}"));
        lines.chain([String::new()]).collect::<Vec<_>>().join("\n")
    }

    fn known(file: &UserFile) -> Vec<String> {
        let users = file.lock().users.clone().unwrap();
        let names = ["ann", "bob", "cat"]
            .into_iter()
            .filter(|name| users.hash(name).is_some());
        names.map(str::to_owned).collect()
    }

    #[test]
    fn a_file_that_changes_in_any_way_is_read_again() {
        let mut case = Case::new();
        case.write(&["ann"]);
        let file = case.open();
        assert_eq!(known(&file), ["ann"]);
        // In place, of the same length, in the same instant.
        case.write(&["bob"]);
        assert_eq!(case.names(&file), ["bob"]);
        // By a rename.
        let new = case.directory.path().join("new");
        std::fs::write(&new, lines(&["cat"])).unwrap();
        std::fs::rename(&new, case.path()).unwrap();
        assert_eq!(case.names(&file), ["cat"]);
        // By a symbolic link to a directory that is swapped.
        for (name, user) in [("one", "ann"), ("two", "bob")] {
            let directory = case.directory.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("htpasswd"), lines(&[user])).unwrap();
        }
        let data = case.directory.path().join("..data");
        symlink("one", &data).unwrap();
        std::fs::remove_file(case.path()).unwrap();
        symlink("..data/htpasswd", case.path()).unwrap();
        assert_eq!(case.names(&file), ["ann"]);
        let swapped = case.directory.path().join("..swapped");
        symlink("two", &swapped).unwrap();
        std::fs::rename(&swapped, &data).unwrap();
        assert_eq!(case.names(&file), ["bob"]);
    }

    #[test]
    fn a_file_that_stays_the_same_is_not_read() {
        let mut case = Case::new();
        case.write(&["ann"]);
        let file = case.open();
        assert_eq!(
            file.lock().stamp,
            None,
            "it may still change in this instant"
        );
        case.now += Duration::from_mins(1);
        case.names(&file);
        let stamp = file.lock().stamp;
        assert!(stamp.is_some());
        // It shows that nothing is read: this content goes unnoticed.
        file.lock().users = Some(Arc::new(parse(lines(&["cat"]).as_bytes()).0));
        assert_eq!(case.names(&file), ["cat"]);
        assert_eq!(file.lock().stamp, stamp);
    }

    #[test]
    fn an_empty_file_counts_when_it_stays_empty() {
        let mut case = Case::new();
        case.write(&["ann"]);
        let file = case.open();
        case.write(&[]);
        assert_eq!(case.names(&file), ["ann"]);
        case.write(&["ann", "bob"]);
        assert_eq!(case.names(&file), ["ann", "bob"]);
        std::fs::write(case.path(), "# nobody any more\n").unwrap();
        assert_eq!(case.names(&file), ["ann", "bob"]);
        assert_eq!(case.names(&file), ["ann", "bob"]);
        assert_eq!(case.names(&file), [""; 0]);
    }

    #[test]
    fn an_unreadable_file_changes_nothing() {
        let mut case = Case::new();
        case.write(&["ann"]);
        let file = case.open();
        std::fs::write(case.path(), "nonsense\nann:plaintext\n").unwrap();
        assert_eq!(case.names(&file), ["ann"]);
        std::fs::remove_file(case.path()).unwrap();
        assert_eq!(case.names(&file), ["ann"]);
        std::fs::create_dir(case.path()).unwrap();
        assert_eq!(case.names(&file), ["ann"]);
        std::fs::remove_dir(case.path()).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            case.path(),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(case.names(&file), ["ann"]);
        std::fs::remove_file(case.path()).unwrap();
        case.write(&["bob"]);
        assert_eq!(case.names(&file), ["bob"]);
    }

    #[test]
    fn one_bad_line_locks_out_one_user() {
        let mut case = Case::new();
        case.write(&["ann"]);
        let file = case.open();
        let text = format!("ann:plaintext\n{}", lines(&["bob"]));
        std::fs::write(case.path(), text).unwrap();
        assert_eq!(case.names(&file), ["bob"]);
    }

    #[test]
    fn who_was_removed_is_out_though_only_a_bad_line_is_left() {
        let mut case = Case::new();
        case.write(&["ann"]);
        let file = case.open();
        std::fs::write(case.path(), "bob:{SHA}x\n").unwrap();
        assert_eq!(case.names(&file), ["ann"], "it may still be being written");
        assert_eq!(case.names(&file), ["ann"]);
        assert_eq!(case.names(&file), [""; 0]);
    }

    #[test]
    fn a_missing_file_is_made_for_docker() {
        let mut case = Case::new();
        let path = case.directory.path().join("new/dir/htpasswd");
        let file = UserFile::open(path.clone(), case.now).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("docker:$2b$10$"), "{text}");
        assert!(file.lock().users.as_ref().unwrap().hash("docker").is_some());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        std::fs::write(&path, lines(&["ann"])).unwrap();
        assert_eq!(case.names(&file), ["ann"]);
    }

    #[test]
    fn a_directory_in_its_place_lets_nobody_in_until_it_is_a_file() {
        let mut case = Case::new();
        std::fs::create_dir(case.path()).unwrap();
        let file = case.open();
        assert!(file.lock().users.is_none());
        file.look(case.now);
        assert!(file.lock().users.is_none());
        std::fs::remove_dir(case.path()).unwrap();
        case.write(&["ann"]);
        assert_eq!(case.names(&file), ["ann"]);
    }

    #[test]
    fn what_cannot_be_read_at_the_start_is_an_error() {
        let case = Case::new();
        let error = UserFile::open("/dev/null".into(), case.now).err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains("/dev/null") && text.contains("htpasswd -nB"),
            "{text}"
        );
        case.write(&["ann"]);
        let beneath = case.path().join("file");
        assert!(UserFile::open(beneath, case.now).is_err());
    }

    #[tokio::test]
    async fn it_is_looked_at_once_a_second() {
        let case = Case::new();
        case.write(&["ann"]);
        let file = Arc::new(case.open());
        let start = Instant::now();
        assert!(file.current(start).await.is_some());
        case.write(&["bob"]);
        file.current(start + Duration::from_millis(900)).await;
        assert_eq!(known(&file), ["ann"]);
        file.current(start + Duration::from_secs(1)).await;
        assert_eq!(known(&file), ["bob"]);
    }
}
