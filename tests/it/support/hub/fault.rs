//! Faults as data: where one strikes, how often, and what it does.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;

use super::answer::Reply;
use super::log::{Kind, Listener, Request, Target};

/// Which requests a fault is for: all that is set must match.
#[derive(Clone, Debug, Default)]
pub(crate) struct Where {
    listener: Option<Listener>,
    kind: Option<Kind>,
    method: Option<&'static str>,
    path: Option<String>,
    query: Option<String>,
    digest: Option<String>,
    header: Option<&'static str>,
}

impl Where {
    /// Every request at every port.
    pub(crate) fn anything() -> Self {
        Self::default()
    }

    /// Requests for that kind of thing.
    pub(crate) fn kind(kind: Kind) -> Self {
        Self {
            kind: Some(kind),
            ..Self::default()
        }
    }

    /// Manifests, by tag or digest.
    pub(crate) fn manifests() -> Self {
        Self::kind(Kind::Manifest)
    }

    /// Blobs, at the registry and at the CDN.
    pub(crate) fn blobs() -> Self {
        Self::kind(Kind::Blob)
    }

    /// The token service.
    pub(crate) fn tokens() -> Self {
        Self::kind(Kind::Token)
    }

    /// Only at that port.
    pub(crate) fn at(mut self, listener: Listener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Only `GET`.
    pub(crate) fn get(mut self) -> Self {
        self.method = Some("GET");
        self
    }

    /// Only `HEAD`.
    pub(crate) fn head(mut self) -> Self {
        self.method = Some("HEAD");
        self
    }

    /// Only paths that contain this.
    pub(crate) fn path(mut self, part: &str) -> Self {
        self.path = Some(part.to_owned());
        self
    }

    /// Only queries that contain this (undecoded).
    pub(crate) fn query(mut self, part: &str) -> Self {
        self.query = Some(part.to_owned());
        self
    }

    /// Only what asks for this digest by name.
    pub(crate) fn digest(mut self, digest: &str) -> Self {
        self.digest = Some(digest.to_owned());
        self
    }

    /// Only requests with this (lower-case) header: `range` for a resume, `authorization`.
    pub(crate) fn with_header(mut self, name: &'static str) -> Self {
        self.header = Some(name);
        self
    }

    fn matches(&self, request: &Request) -> bool {
        let asked_digest = match &request.target {
            Target::Manifest { reference, .. } => reference,
            Target::Blob { digest, .. } | Target::Signed { digest } => digest,
            _ => "",
        };
        let part = |part: &Option<String>, of: &str| part.as_ref().is_none_or(|p| of.contains(p));
        self.listener.is_none_or(|it| it == request.listener)
            && self.kind.is_none_or(|it| it == request.kind)
            && self.method.is_none_or(|it| it == request.method)
            && self.digest.as_ref().is_none_or(|it| it == asked_digest)
            && self.header.is_none_or(|it| request.header(it).is_some())
            && part(&self.path, &request.path)
            && part(&self.query, &request.query)
    }
}

/// What goes wrong. Offsets and counts are of body bytes.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Another answer: status, headers, body.
    Status(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Another body; its length is right, everything else as before.
    Body(Vec<u8>),
    /// One more header line, even a second one of a name, even a second content-length.
    Header(&'static str, String),
    /// Another value of a (lower-case) header.
    OtherHeader(&'static str, String),
    /// 401 with these `WWW-Authenticate` lines.
    Challenge(Vec<String>),
    /// 200 and a page, as a captive portal answers.
    Html,
    /// Sends elsewhere.
    Redirect(u16, String),
    /// 307 to the very same address.
    RedirectLoop,
    /// `Docker-Content-Digest` of something else.
    WrongDigestHeader,
    /// No `Docker-Content-Digest`.
    NoDigestHeader,
    /// No `Content-Type`.
    NoContentType,
    /// One wrong bit in the byte at this offset *of the content*, so a range that does not
    /// cover it is right.
    FlipBit(usize),
    /// The body compressed, as `Content-Encoding` says.
    Gzip,
    /// 200 and everything, where 206 was asked for.
    IgnoreRange,
    /// 206 with the right bytes under a range that starts one later.
    WrongContentRange,
    /// Waits before the headers.
    Delay(Duration),
    /// Never answers, never closes.
    StallHeaders,
    /// Closes without an answer.
    CloseBeforeAnswer,
    /// Waits after each byte of the head.
    HeadersByteByByte(Duration),
    /// So many body bytes, then silence.
    StallAfter(usize),
    /// So many body bytes, then a reset; a reader that is behind may get fewer.
    ResetAfter(usize),
    /// So many body bytes, then an orderly close.
    TruncateAfter(usize),
    /// So many body bytes (`None`: not even the headers), then waits for `Hub::open`.
    Gate(Option<usize>),
    /// Chunked; a `HEAD` then has no length at all.
    NoLength,
    /// A `Content-Length` that is off by this, and a close after the body.
    WrongLength(i64),
    /// Chunked, and so many bytes more than there are.
    ExtraBytes(usize),
    /// Chunked, over and over until the peer hangs up.
    Endless,
    /// Bytes per second.
    Rate(u64),
}

/// What an answer must be for a fault to make sense on it. A fault that does not is not used
/// up: `TruncateAfter` passes over a `HEAD`, a challenge and a redirect, and strikes the bytes.
enum Needs {
    Nothing,
    Success,
    Body,
    Range,
}

impl What {
    fn needs(&self) -> Needs {
        match self {
            Self::IgnoreRange | Self::WrongContentRange => Needs::Range,
            Self::FlipBit(_)
            | Self::Gzip
            | Self::StallAfter(_)
            | Self::ResetAfter(_)
            | Self::TruncateAfter(_)
            | Self::Gate(Some(_))
            | Self::ExtraBytes(_)
            | Self::Endless
            | Self::Rate(_) => Needs::Body,
            Self::Body(_)
            | Self::WrongDigestHeader
            | Self::NoDigestHeader
            | Self::NoContentType
            | Self::NoLength
            | Self::WrongLength(_) => Needs::Success,
            _ => Needs::Nothing,
        }
    }

    fn fits(&self, request: &Request, reply: &Reply) -> bool {
        let success = (200..300).contains(&reply.status);
        match self.needs() {
            Needs::Nothing => true,
            Needs::Success => success,
            Needs::Body => success && request.method != "HEAD" && !reply.body.is_empty(),
            Needs::Range => reply.status == 206,
        }
    }
}

/// One fault: where, how often, what.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    place: Where,
    times: usize,
    after: usize,
    what: Vec<What>,
}

impl Fault {
    /// A fault that strikes there, always, until it is healed.
    pub(crate) fn on(place: Where) -> Self {
        Self {
            place,
            times: usize::MAX,
            after: 0,
            what: Vec::new(),
        }
    }

    /// Strikes only so often.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Lets the first `after` requests it would strike pass.
    pub(crate) fn after(mut self, after: usize) -> Self {
        self.after = after;
        self
    }

    /// What it does; several are done in order.
    pub(crate) fn does(mut self, what: What) -> Self {
        self.what.push(what);
        self
    }
}

/// Names a fault that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FaultId(usize);

/// All faults of a hub, in the order they were set.
#[derive(Default)]
pub(super) struct Faults {
    set: Vec<Armed>,
    gates: HashMap<FaultId, watch::Sender<bool>>,
}

struct Armed {
    fault: Fault,
    healed: bool,
    /// Matches so far, those that were let pass included.
    seen: usize,
    struck: usize,
}

/// A fault that has found its request.
pub(super) struct Strike {
    pub(super) what: Vec<What>,
    pub(super) gate: watch::Receiver<bool>,
}

impl Faults {
    pub(super) fn set(&mut self, fault: Fault) -> FaultId {
        let id = FaultId(self.set.len());
        self.set.push(Armed {
            fault,
            healed: false,
            seen: 0,
            struck: 0,
        });
        self.gates.insert(id, watch::Sender::new(false));
        id
    }

    pub(super) fn heal(&mut self, id: FaultId) {
        self.set[id.0].healed = true;
    }

    pub(super) fn heal_all(&mut self) {
        self.set.iter_mut().for_each(|armed| armed.healed = true);
    }

    pub(super) fn open(&self, id: FaultId) {
        self.gates[&id].send_replace(true);
    }

    pub(super) fn struck(&self, id: FaultId) -> usize {
        self.set[id.0].struck
    }

    /// The first fault that is for this request and its answer, and has uses left.
    pub(super) fn strike(&mut self, request: &Request, reply: &Reply) -> Option<Strike> {
        let (at, armed) = self.set.iter_mut().enumerate().find_map(|(at, armed)| {
            let strikes = armed.strikes(request, reply);
            strikes.then_some((at, armed))
        })?;
        Some(Strike {
            what: armed.fault.what.clone(),
            gate: self.gates[&FaultId(at)].subscribe(),
        })
    }
}

impl Armed {
    fn strikes(&mut self, request: &Request, reply: &Reply) -> bool {
        let Fault {
            place,
            times,
            after,
            what,
        } = &self.fault;
        let fits = what.iter().all(|what| what.fits(request, reply));
        if self.healed || self.struck >= *times || !fits || !place.matches(request) {
            return false;
        }
        self.seen += 1;
        let strikes = self.seen > *after;
        self.struck += usize::from(strikes);
        strikes
    }
}
