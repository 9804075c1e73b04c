//! The first htpasswd file: Distribution makes one, so that a registry with authentication never
//! starts without.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Its only user.
const USER: &str = "docker";
/// What Distribution takes.
const COST: u32 = 10;

/// Makes the file, readable for its owner alone, and says the password in the log: that is the only
/// place where it is ever said.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let mut secret = [0; 32];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| io::Error::other("no random numbers"))?;
    let password = URL_SAFE_NO_PAD.encode(secret);
    let hash = bcrypt::hash(&password, COST).map_err(io::Error::other)?;
    if let Some(directory) = path.parent().filter(|parent| *parent != Path::new("")) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    // Not of the tree, and not content: `store` has nothing to do with it.
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(format!("{USER}:{hash}\n").as_bytes())?;
    file.sync_all()?;
    tracing::warn!(
        user = USER,
        password,
        "{} was not there, and was made with a user and a random password; it is not shown again",
        path.display()
    );
    Ok(())
}
