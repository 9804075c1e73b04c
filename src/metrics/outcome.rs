//! How an answer was made.

/// How the answer to a pull was made; the same word in the `X-Cache` header, in the log and in the
/// metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// From the disk, nobody was asked.
    Hit,
    /// Fetched from the upstream for this request.
    Miss,
    /// Fetched from the upstream for another request that was under way.
    Joined,
    /// From the disk, after the upstream said that it still holds.
    Revalidated,
    /// From the disk, although the upstream could not be asked or no longer has it.
    Stale,
    /// From the upstream, and not kept: there was no room for it.
    Pass,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Hit,
        Self::Miss,
        Self::Joined,
        Self::Revalidated,
        Self::Stale,
        Self::Pass,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Joined => "joined",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
            Self::Pass => "pass",
        }
    }

    /// What it is for one who fetched, or who only waited for it.
    pub fn fetched(joined: bool) -> Self {
        if joined { Self::Joined } else { Self::Miss }
    }

    /// Whether the content was here already.
    pub fn is_from_disk(self) -> bool {
        matches!(self, Self::Hit | Self::Revalidated | Self::Stale)
    }
}
