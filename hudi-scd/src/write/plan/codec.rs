//! The compression of a commit's files and of single pages.

use std::{io::Write as _, mem::discriminant};

use bytes::Bytes;
use parquet::{
    basic::{Compression, GzipLevel, ZstdLevel},
    errors::ParquetError,
};

use crate::{
    Result,
    base_file::Footer,
    codec::Codec,
    context::{Context, TableOptions},
    index::IndexedFile,
    snapshot::View,
};

/// Higher levels of zlib-rs take up to twice as long and save 1 % of the bytes. Level 1 gives 50 % more
/// bytes.
const GZIP_LEVEL: u32 = 2;
const ZSTD_LEVEL: i32 = 1;

/// Returns the compression of a commit's files: from the options, otherwise from the table's properties,
/// otherwise from its newest file. `files` contains the files of the latest snapshot, if they were looked up.
pub(crate) async fn of_commit(context: &Context, view: &View, files: &[IndexedFile]) -> Result<Compression> {
    let options = context.options();
    if let Some(codec) = options.codec.or_else(|| context.properties().codec().and_then(Codec::parse)) {
        return Ok(compression(codec, options));
    }
    let newest = files.iter().filter(|file| file.footer.rows() > 0).max_by_key(|file| file.version().instant);
    let stored = match newest {
        Some(file) => file.footer.codec,
        None if files.is_empty() => match view.latest_files().max_by_key(|(_, version)| version.instant) {
            Some((group, version)) => {
                let path = context.layout().resolve(&group.path(version))?;
                Footer::load(context.store(), &path).await?.codec()
            }
            None => None,
        },
        None => None,
    };
    let codec = match stored {
        Some(Compression::UNCOMPRESSED) => return Ok(Compression::UNCOMPRESSED),
        Some(Compression::SNAPPY) => Codec::Snappy,
        Some(Compression::GZIP(_)) => Codec::Gzip,
        Some(Compression::ZSTD(_)) => Codec::Zstd,
        _ => Codec::default(),
    };
    Ok(compression(codec, options))
}

/// Returns the compression of a codec with the level of the options.
pub(crate) fn compression(codec: Codec, options: &TableOptions) -> Compression {
    let level = options.compression_level;
    match codec {
        Codec::Snappy => Compression::SNAPPY,
        Codec::Gzip => {
            let level = level.unwrap_or(GZIP_LEVEL).clamp(1, 9);
            Compression::GZIP(GzipLevel::try_new(level).unwrap_or_default())
        }
        Codec::Zstd => {
            let level = level.map_or(ZSTD_LEVEL, |level| level.clamp(1, 22).cast_signed());
            Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default())
        }
    }
}

/// Returns `true` if two column chunks have the same codec. The level is ignored.
pub(crate) fn is_same(one: Compression, other: Compression) -> bool {
    discriminant(&one) == discriminant(&other)
}

/// Compresses pages like Parquet's writer, whose own codecs are private.
pub(crate) enum PageCompressor {
    None,
    Snappy(Box<snap::raw::Encoder>),
    Gzip(flate2::Compression),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl PageCompressor {
    /// # Errors
    /// [`ParquetError::NYI`] for other codecs, which no commit uses.
    pub(crate) fn new(compression: Compression) -> Result<Self, ParquetError> {
        Ok(match compression {
            Compression::UNCOMPRESSED => Self::None,
            Compression::SNAPPY => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::GZIP(level) => Self::Gzip(flate2::Compression::new(level.compression_level())),
            Compression::ZSTD(level) => Self::Zstd(zstd::bulk::Compressor::new(level.compression_level())?),
            other => return Err(ParquetError::NYI(format!("pages cannot be compressed with {other}"))),
        })
    }

    pub(crate) fn compress(&mut self, bytes: &[u8]) -> Result<Bytes, ParquetError> {
        let compressed = match self {
            Self::None => bytes.to_vec(),
            Self::Snappy(encoder) => {
                encoder.compress_vec(bytes).map_err(|cause| ParquetError::External(Box::new(cause)))?
            }
            Self::Gzip(level) => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 2), *level);
                encoder.write_all(bytes)?;
                encoder.finish()?
            }
            Self::Zstd(compressor) => compressor.compress(bytes)?,
        };
        Ok(compressed.into())
    }
}
