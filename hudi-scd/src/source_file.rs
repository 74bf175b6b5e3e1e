//! [`SourceFile`]: a file of raw rows that a table takes in once.

use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Result, timeline::CommitMetadata};

/// The length of the digest of a file in bytes.
pub(crate) const DIGEST: usize = 16;

/// Identifies a file.
pub(crate) type FileDigest = [u8; DIGEST];

/// A file of raw rows that a write takes in, identified by its name and the version of its content.
///
/// Two files with the same name and version are the same file, and a table takes it in at most once
/// ([`Table::take_in`](crate::Table::take_in)).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceFile {
    /// The name, usually a URL.
    pub name: String,
    /// The version of its content: the version id in S3, or the ETag.
    pub version: String,
}

impl SourceFile {
    /// The entry of a commit's metadata that lists the files that it took in, as a JSON array of `[name,
    /// version]`.
    pub const METADATA: &'static str = "hudi_scd.files";

    /// Creates the description of a file.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into() }
    }

    /// Returns the files that a commit took in, according to its metadata. Empty for other commits.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the entry is not valid.
    pub fn of_commit(metadata: &CommitMetadata) -> Result<Vec<Self>> {
        match metadata.extra_metadata.get(Self::METADATA) {
            Some(Some(text)) => Self::parse(text),
            _ => Ok(Vec::new()),
        }
    }

    /// Parses the entry of a commit's metadata.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>> {
        let pairs: Vec<(String, String)> = serde_json::from_str(text).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "the commit's list of files is not valid")
                .with_context("entry", Self::METADATA)
                .with_source(cause)
        })?;
        Ok(pairs.into_iter().map(|(name, version)| Self { name, version }).collect())
    }

    /// Two files with equal digests would count as the same file, so the digest is cryptographic.
    pub(crate) fn digest(&self) -> FileDigest {
        let mut hash = Sha256::new();
        hash.update((self.name.len() as u64).to_le_bytes());
        hash.update(&self.name);
        hash.update(&self.version);
        let mut digest = FileDigest::default();
        for (to, from) in digest.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        digest
    }
}
