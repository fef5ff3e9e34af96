//! [`Unpacked`]: a store as if none of its files were compressed. Whoever reads files reads compressed ones through it, and need not know.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use crate::format::{Codec, Compression, FileBytes, Spoilt, Unpack};

/// A store for reading. It says of a compressed file the size that it has there, gives it from the beginning, and fewer bytes than were asked for
/// where it has no more.
#[derive(Debug)]
pub(super) struct Unpacked {
    inner: Arc<dyn ObjectStore>,
    compression: Compression,
    purpose: Purpose,
}

/// What files are unpacked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// A look at their beginning: little is read ahead.
    Look,
    /// All they hold. A line with more bytes is an error, for readers that would hold it, whatever its length: few compressed bytes make a line of any.
    Read { longest_line: Option<u64> },
}

impl Unpacked {
    /// The store itself, where nothing in it is compressed.
    pub(super) fn over(
        inner: Arc<dyn ObjectStore>,
        compression: Compression,
        purpose: Purpose,
    ) -> Arc<dyn ObjectStore> {
        match compression {
            Compression::None => inner,
            _ => Arc::new(Self { inner, compression, purpose }),
        }
    }
}

/// The content of a file.
fn content(file: &FileBytes, codec: Codec, purpose: Purpose) -> BoxStream<'static, Result<Bytes>> {
    let (chunks, longest_line) = match purpose {
        Purpose::Look => (file.looked(), None),
        Purpose::Read { longest_line } => (file.chunks(), longest_line),
    };
    let state = Some((chunks, Bytes::new(), Unpack::new(codec, longest_line)));
    let pieces = futures::stream::try_unfold(state, |state| async move {
        let Some((mut chunks, mut chunk, mut unpack)) = state else { return Ok(None) };
        loop {
            while chunk.is_empty() {
                let Some(next) = chunks.try_next().await.map_err(from_store)? else {
                    let last = unpack.finish().map_err(Spoilt::into_store)?;
                    return Ok(Some((Bytes::from(last), None)));
                };
                chunk = next;
            }
            let mut left = &chunk[..];
            let piece = unpack.push(&mut left).map_err(Spoilt::into_store)?;
            let taken = chunk.len() - left.len();
            chunk.advance(taken);
            if !piece.is_empty() {
                return Ok(Some((Bytes::from(piece), Some((chunks, chunk, unpack)))));
            }
        }
    });
    pieces.try_filter(|piece| futures::future::ready(!piece.is_empty())).boxed()
}

/// An error of the store as such, after it went through [`FileBytes`].
fn from_store(error: air_core::BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(source) => Error::Generic { store: "file", source },
    }
}

/// The bytes of a range, as far as there are any.
fn within(
    content: BoxStream<'static, Result<Bytes>>,
    range: Range<u64>,
) -> BoxStream<'static, Result<Bytes>> {
    let state = (content, 0_u64);
    let pieces = futures::stream::try_unfold(state, move |(mut content, mut at)| {
        let range = range.clone();
        async move {
            while at < range.end {
                let Some(mut piece) = content.try_next().await? else { break };
                let (begin, len) = (at, piece.len() as u64);
                at += len;
                piece.truncate(usize::try_from((range.end - begin).min(len)).unwrap_or(usize::MAX));
                piece.advance(
                    usize::try_from(range.start.saturating_sub(begin)).unwrap_or(usize::MAX).min(piece.len()),
                );
                if !piece.is_empty() {
                    return Ok(Some((piece, (content, at))));
                }
            }
            Ok(None)
        }
    });
    pieces.boxed()
}

impl fmt::Display for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Unpacked {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(codec) = self.compression.of(location.as_ref()).filter(|_| !options.head) else {
            return self.inner.get_opts(location, options).await;
        };
        let wanted = match options.range {
            None => 0..u64::MAX,
            Some(GetRange::Bounded(range)) => range,
            Some(GetRange::Offset(from)) => from..u64::MAX,
            Some(GetRange::Suffix(_)) => {
                let source = "nobody knows where a compressed file ends before it is unpacked".into();
                return Err(Error::NotSupported { source });
            }
        };
        let meta = self.inner.head(location).await?;
        let content = content(&FileBytes::new(self.inner.clone(), meta.clone()), codec, self.purpose);
        // Whoever collects the bytes makes room for so many.
        let range = wanted.start..if wanted.end < u64::MAX { wanted.end } else { wanted.start + meta.size };
        let payload = GetResultPayload::Stream(within(content, wanted));
        Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if self.compression.of(location.as_ref()).is_none() {
            return self.inner.get_ranges(location, ranges).await;
        }
        let mut found = Vec::with_capacity(ranges.len());
        for range in ranges {
            let options =
                GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            found.push(self.get_opts(location, options).await?.bytes().await?);
        }
        Ok(found)
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
