//! The error codes of the registry protocol and the body that carries them.

use serde::Serialize;

/// Every code that Distribution and the OCI distribution specification know.
///
/// The status that goes with each is decided where answers are made, not here: the
/// specification gives one code several statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Something failed here that is not the client's fault.
    Unknown,
    /// The operation is not offered.
    Unsupported,
    /// Credentials are needed.
    Unauthorized,
    /// Credentials would not help.
    Denied,
    /// Not now.
    Unavailable,
    /// The client, or the upstream behind, is over a limit.
    TooManyRequests,
    /// A digest is malformed or does not match the content.
    DigestInvalid,
    /// A length does not match the content.
    SizeInvalid,
    /// A range cannot be served or does not continue the upload.
    RangeInvalid,
    /// A repository name breaks the grammar.
    NameInvalid,
    /// No such repository.
    NameUnknown,
    /// A tag breaks the grammar.
    TagInvalid,
    /// No such manifest.
    ManifestUnknown,
    /// A manifest is not what its type promises.
    ManifestInvalid,
    /// A manifest names a blob or manifest that the repository does not have.
    ManifestBlobUnknown,
    /// No such blob.
    BlobUnknown,
    /// No such upload session.
    BlobUploadUnknown,
    /// An upload session was used in a way that it does not allow.
    BlobUploadInvalid,
    /// The `n` of a listing is not a number that can be served.
    PaginationNumberInvalid,
}

impl ErrorCode {
    /// The code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unavailable => "UNAVAILABLE",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::TagInvalid => "TAG_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
        }
    }
}

/// One entry of an error body.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorEntry {
    /// The code on the wire.
    pub code: &'static str,
    /// What happened and what to do, for people.
    pub message: String,
    /// What it is about: a digest, a tag, a name. Left out where there is nothing to add.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

impl ErrorEntry {
    /// An entry without detail.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: code.as_str(),
            message: message.into(),
            detail: serde_json::Value::Null,
        }
    }

    /// The same entry, saying what it is about.
    #[must_use]
    pub fn about(mut self, detail: impl Into<serde_json::Value>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// The body `{"errors":[…]}` with the newline that Distribution ends it with.
///
/// Clients show "error parsing HTTP response" for anything else, so every refusal has this form.
pub fn error_body(entries: &[ErrorEntry]) -> String {
    let mut body = serde_json::json!({ "errors": entries }).to_string();
    body.push('\n');
    body
}
