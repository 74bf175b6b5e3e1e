//! [`Codec`]: the compression of base files.

/// The compression of pages in base files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// GZIP, which is Hudi's default as well. Files have half the size of those with Snappy. Every Parquet
    /// reader supports it.
    #[default]
    Gzip,
    /// Snappy. Writing and reading are two to four times faster than with GZIP. Every Parquet reader supports
    /// it.
    Snappy,
    /// Zstandard. Smaller and faster than GZIP, but Redshift Spectrum's documentation does not list it, and
    /// Hudi before 0.13 needs native libraries to read it.
    Zstd,
}

impl Codec {
    const ALL: [Self; 3] = [Self::Gzip, Self::Snappy, Self::Zstd];

    /// Returns the codec's name in Hudi's properties.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }

    /// Returns the codec with this name in Hudi's properties. Case is ignored. Returns `None` for codecs that
    /// this crate does not write.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }
}
