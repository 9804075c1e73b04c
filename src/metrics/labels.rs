//! What counters are told apart by. Each is one of a few words, so that nobody can make more of
//! them by asking for something strange.

/// A label whose values are known beforehand.
pub(super) trait Label: Copy + 'static {
    /// All values, each at the place that [`index`](Self::index) gives.
    const ALL: &'static [Self];

    /// The place.
    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$what])* $value,)+
        }

        impl $name {
            /// The word in the metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// What kind of thing was asked for. Where Distribution has the same, it has the same word.
    Handler {
        /// `/v2/`
        Base = "base",
        /// `/v2/_catalog`
        Catalog = "catalog",
        /// `…/tags/list`
        Tags = "tags",
        /// `…/manifests/…`
        Manifest = "manifest",
        /// `…/blobs/…`
        Blob = "blob",
        /// `…/blobs/uploads/`
        BlobUpload = "blob_upload",
        /// `…/blobs/uploads/<id>`
        BlobUploadChunk = "blob_upload_chunk",
        /// `…/referrers/…`
        Referrers = "referrers",
        /// `/token`
        Token = "token",
        /// `/`
        Root = "root",
        /// `/metrics`
        Metrics = "metrics",
        /// `/api/…`
        Api = "api",
        /// The page for people, and its files.
        Page = "page",
        /// No endpoint, or none that was looked at: a health check fails.
        Other = "other",
    }
}

label! {
    /// A method, in lower case as Distribution's metrics have it.
    Method {
        /// `GET`
        Get = "get",
        /// `HEAD`
        Head = "head",
        /// `PUT`
        Put = "put",
        /// `POST`
        Post = "post",
        /// `PATCH`
        Patch = "patch",
        /// `DELETE`
        Delete = "delete",
        /// `OPTIONS`
        Options = "options",
        /// Any other.
        Other = "other",
    }
}

impl Method {
    /// The method of that name, in capitals.
    pub fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PUT" => Self::Put,
            "POST" => Self::Post,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

label! {
    /// What was pulled.
    Kind {
        /// A manifest.
        Manifest = "manifest",
        /// A blob.
        Blob = "blob",
    }
}

label! {
    /// How a fill ended.
    FillEnd {
        /// What came is kept.
        Stored = "stored",
        /// It is passed on, and not kept.
        Passed = "passed",
        /// It did not come, or was not what it should have been; or larder stopped.
        Failed = "failed",
    }
}

label! {
    /// What came of one request to an upstream.
    Asked {
        /// A status of the 200s.
        Success = "2xx",
        /// A redirect.
        Redirect = "3xx",
        /// The upstream wants to know who asks, or denies it: 401 and 403.
        Denied = "denied",
        /// 404 or 410.
        NotFound = "not_found",
        /// 429
        Limited = "limited",
        /// Any other status of the 400s.
        Refused = "4xx",
        /// A status of the 500s.
        Failed = "5xx",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection, or none that lasted until an answer.
        Unreachable = "unreachable",
        /// What came is no answer of a registry.
        Misbehaved = "misbehaved",
    }
}

impl Asked {
    /// What a status means.
    pub fn status(status: u16) -> Self {
        match status {
            300..=399 => Self::Redirect,
            401 | 403 => Self::Denied,
            404 | 410 => Self::NotFound,
            429 => Self::Limited,
            400..=499 => Self::Refused,
            500.. => Self::Failed,
            _ => Self::Success,
        }
    }
}

impl Label for super::Outcome {
    const ALL: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }
}

/// One of something for each value of a label.
#[derive(Debug)]
pub(super) struct Each<L: Label, T> {
    all: Vec<T>,
    label: std::marker::PhantomData<fn(L)>,
}

impl<L: Label, T: Default> Default for Each<L, T> {
    fn default() -> Self {
        Self {
            all: L::ALL.iter().map(|_| T::default()).collect(),
            label: std::marker::PhantomData,
        }
    }
}

impl<L: Label, T> Each<L, T> {
    pub(super) fn of(&self, label: L) -> &T {
        &self.all[label.index()]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (L, &T)> {
        L::ALL.iter().copied().zip(&self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in_order<L: Label>() {
        let places = L::ALL.iter().map(|label| label.index());
        assert!(places.eq(0..L::ALL.len()));
    }

    #[test]
    fn each_value_has_its_own_place() {
        is_in_order::<Handler>();
        is_in_order::<Method>();
        is_in_order::<Kind>();
        is_in_order::<FillEnd>();
        is_in_order::<Asked>();
        is_in_order::<super::super::Outcome>();
    }
}
