//! [`S3RangeCopy`]: `UploadPartCopy` of S3 and compatible services, which `object_store` sends without a
//! range only.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use object_store::{
    Error, HeaderMap, HeaderValue, MultipartId, ObjectStore, PutPayload, PutResult, Result,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer},
    client::{
        ClientOptions, HttpClient, HttpConnector, HttpErrorKind, HttpRequest, HttpRequestBody,
        ReqwestConnector,
    },
    multipart::{MultipartStore, PartId},
    path::Path,
    signer::Signer,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, sleep};

use super::RangeCopy;

/// The characters of a key that are escaped in a header.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The name of the store in errors.
const STORE: &str = "S3";
// The maximum number of retries and the backoff: object_store's defaults, without its jitter.
const RETRIES: u32 = 10;
const RETRY_TIME: Duration = Duration::from_secs(180);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// Range copies for S3 and compatible services.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use hudi_scd::{S3RangeCopy, Table, TableOptions, object_store::aws::AmazonS3Builder};
/// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
/// let s3 = S3RangeCopy::build(AmazonS3Builder::from_env().with_bucket_name("lake"))?;
/// let store = s3.store();
/// let options = TableOptions::new().with_range_copy(Arc::new(s3));
/// let table = Table::open_with(store, "customers".into(), options).await?;
/// # Ok(())
/// # }
/// ```
///
/// A request is retried up to ten times, within three minutes, if the service is overloaded or the connection
/// fails. Some settings of the builder do not allow copies: a checksum, unsigned requests, encryption with a
/// customer's key (SSE-C), and S3 Express One Zone. With these, files are sent as a whole.
#[derive(Clone, Debug)]
pub struct S3RangeCopy {
    store: Arc<AmazonS3>,
    client: HttpClient,
    headers: HeaderMap,
    bucket: String,
    region: String,
    request_payer: bool,
    /// The setting that prevents copies of ranges.
    obstacle: Option<&'static str>,
}

impl S3RangeCopy {
    /// Builds a store, and range copies that use its HTTP client and credentials. Replaces the builder's
    /// connector by [`ReqwestConnector`]; to set another one, use [`S3RangeCopy::build_with`]. An endpoint
    /// whose URL begins with `http://` allows plain HTTP.
    ///
    /// # Errors
    /// As [`AmazonS3Builder::build`].
    pub fn build(builder: AmazonS3Builder) -> Result<Self> {
        Self::build_with(builder, ReqwestConnector::default())
    }

    /// Builds a store like [`S3RangeCopy::build`], with a connector.
    ///
    /// # Errors
    /// As [`AmazonS3Builder::build`].
    pub fn build_with(builder: AmazonS3Builder, connector: impl HttpConnector) -> Result<Self> {
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let builder = if is_plain { builder.with_allow_http(true) } else { builder };
        let value = |key| builder.get_config_value(&key);
        let is_set =
            |key| value(key).is_some_and(|value| matches!(value.as_str(), "true" | "1" | "on" | "y" | "yes"));
        let bucket = value(AmazonS3ConfigKey::Bucket).unwrap_or_default();
        let region = value(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let request_payer = is_set(AmazonS3ConfigKey::RequestPayer);
        let customer_key: AmazonS3ConfigKey = "aws_sse_customer_key_base64".parse()?;
        let obstacle = match () {
            () if is_set(AmazonS3ConfigKey::SkipSignature) => Some("requests are not signed"),
            () if is_set(AmazonS3ConfigKey::S3Express) => Some("the bucket is of S3 Express One Zone"),
            () if value(AmazonS3ConfigKey::Checksum).is_some() => Some("a checksum is set"),
            () if value(customer_key).is_some() => Some("objects are encrypted with a customer's key"),
            () => None,
        };
        let connected = Arc::default();
        let connector = SharedConnector { inner: connector, connected: Arc::clone(&connected) };
        let store = Arc::new(builder.with_http_connector(connector).build()?);
        // The store's own client is connected last.
        let connected = connected.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (client, headers) = connected.ok_or_else(|| generic("the store has no HTTP client"))?;
        Ok(Self { store, client, headers, bucket, region, request_payer, obstacle })
    }

    /// Returns the store.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// Sends the request once.
    async fn send(&self, request: &CopyRequest<'_>) -> Result<PartId, Failure> {
        let credential = self.store.credentials().get_credential().await?;
        let mut sent = HttpRequest::new(HttpRequestBody::empty());
        *sent.method_mut() = "PUT".parse().map_err(|_| generic("PUT is not a method"))?;
        // Signing a URL is the only way to get the URL of an object. Its signature does not cover headers.
        let mut url =
            self.store.signed_url(sent.method().clone(), request.path, Duration::from_secs(60)).await?;
        let (part, range) = ((request.part_idx + 1).to_string(), request.range.clone());
        url.query_pairs_mut().clear().append_pair("partNumber", &part).append_pair("uploadId", request.id);
        let header = |text: String| HeaderValue::try_from(text).map_err(|_| generic("a header is not valid"));
        let source = format!("{}/{}", self.bucket, utf8_percent_encode(request.from.as_ref(), &ESCAPED));

        *sent.uri_mut() = url.as_str().parse().map_err(|_| generic("the URL of an object is not valid"))?;
        *sent.headers_mut() = self.headers.clone();
        sent.headers_mut().insert("x-amz-copy-source", header(source)?);
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        sent.headers_mut().insert("x-amz-copy-source-range", header(bytes)?);
        sent.headers_mut().insert("content-length", HeaderValue::from_static("0"));
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_request_payer(self.request_payer)
            .authorize(&mut sent, None);

        let lost = |error: object_store::client::HttpError| Failure {
            is_temporary: !matches!(error.kind(), HttpErrorKind::Decode),
            error: Error::Generic { store: STORE, source: Box::new(error) },
        };
        let reply = self.client.execute(sent).await.map_err(lost)?;
        let status = reply.status().as_u16();
        let body = reply.into_body().bytes().await.map_err(lost)?;
        outcome(status, &String::from_utf8_lossy(&body), request.from)
    }
}

/// A copy to send.
struct CopyRequest<'a> {
    path: &'a Path,
    id: &'a str,
    part_idx: usize,
    from: &'a Path,
    range: Range<u64>,
}

/// Keeps the client that a store uses.
#[derive(Debug)]
struct SharedConnector<C> {
    inner: C,
    connected: Arc<Mutex<Option<(HttpClient, HeaderMap)>>>,
}

impl<C: HttpConnector> HttpConnector for SharedConnector<C> {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let client = self.inner.connect(options)?;
        let headers = options.get_default_headers().cloned().unwrap_or_default();
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some((client.clone(), headers));
        Ok(client)
    }
}

/// A failed request.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// `true` if a retry may succeed.
    is_temporary: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, is_temporary: false }
    }
}

/// Reads the response to a copy. S3 sends the headers of a response before the copy ends, so an error may
/// follow a status of 200.
fn outcome(status: u16, body: &str, from: &Path) -> Result<PartId, Failure> {
    let code = element(body, "Code").filter(|_| status != 200 || body.contains("<Error>"));
    let code = code.unwrap_or_default();
    let message = element(body, "Message").unwrap_or_default();
    if status == 200 && code.is_empty() {
        return match element(body, "ETag") {
            Some(content_id) => Ok(PartId { content_id }),
            None => Err(refused("the service stored a part without copying").into()),
        };
    }
    let reason = format!("status {status} {code}: {message}");
    let path = from.to_string();
    let error = match (status, code.as_str()) {
        (501 | 405, _) | (_, "NotImplemented" | "MethodNotAllowed") => refused(&reason),
        (404, "NoSuchUpload") => generic(&reason),
        (404, _) => Error::NotFound { path, source: reason.into() },
        (403, _) => Error::PermissionDenied { path, source: reason.into() },
        _ => generic(&reason),
    };
    let is_temporary = matches!(status, 429 | 500 | 502..=599)
        || matches!(code.as_str(), "InternalError" | "RequestTimeout" | "ServiceUnavailable" | "SlowDown");
    Err(Failure { error, is_temporary })
}

/// Returns the text of the first element with this name in a response of S3. Its elements have no attributes.
fn element(xml: &str, name: &str) -> Option<String> {
    let start = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let length = xml[start..].find(&format!("</{name}>"))?;
    let text = &xml[start..start + length];
    let escapes =
        [("&quot;", "\""), ("&#34;", "\""), ("&apos;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    Some(escapes.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain)))
}

fn generic(reason: &str) -> Error {
    Error::Generic { store: STORE, source: reason.into() }
}

fn refused(reason: &str) -> Error {
    Error::NotImplemented { operation: format!("copying a range ({reason})"), implementer: STORE.to_owned() }
}

#[async_trait]
impl MultipartStore for S3RangeCopy {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.store.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.store.put_part(path, id, part_idx, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.store.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.store.abort_multipart(path, id).await
    }
}

#[async_trait]
impl RangeCopy for S3RangeCopy {
    async fn copy_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        from: &Path,
        range: Range<u64>,
    ) -> Result<PartId> {
        if let Some(obstacle) = self.obstacle {
            return Err(refused(obstacle));
        }
        let request = CopyRequest { path, id, part_idx, from, range };
        let began = Instant::now();
        let (mut pause, mut repeated) = (FIRST_PAUSE, 0);
        loop {
            match self.send(&request).await {
                Ok(part) => return Ok(part),
                Err(failure)
                    if !failure.is_temporary || repeated == RETRIES || began.elapsed() > RETRY_TIME =>
                {
                    return Err(failure.error);
                }
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (2 * pause).min(MAX_PAUSE);
            repeated += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use object_store::client::{HttpError, HttpResponse, HttpResponseBody, HttpService};

    use super::*;

    const COPIED: &str = "<?xml version=\"1.0\"?><CopyPartResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
        <LastModified>2026-01-01T00:00:00Z</LastModified><ETag>&quot;a&amp;b&quot;</ETag></CopyPartResult>";
    const SLOW_DOWN: &str =
        "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";

    /// A service with prepared responses. It records the requests.
    #[derive(Clone, Debug, Default)]
    struct Prepared {
        replies: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
        requests: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    }

    #[async_trait]
    impl HttpService for Prepared {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let seen = (format!("{} {}", request.method(), request.uri()), request.headers().clone());
            self.requests.lock().unwrap().push(seen);
            let (status, body) = self.replies.lock().unwrap().pop_front().unwrap();
            let mut reply = HttpResponse::new(HttpResponseBody::from(body.to_owned()));
            *reply.status_mut() = status.try_into().unwrap();
            Ok(reply)
        }
    }

    impl HttpConnector for Prepared {
        fn connect(&self, _: &ClientOptions) -> Result<HttpClient> {
            Ok(HttpClient::new(self.clone()))
        }
    }

    fn builder() -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_bucket_name("lake")
            .with_region("eu-west-1")
            .with_access_key_id("id")
            .with_secret_access_key("secret")
    }

    async fn copied(replies: &[(u16, &'static str)]) -> (Result<PartId>, Prepared) {
        let service = Prepared::default();
        service.replies.lock().unwrap().extend(replies);
        let s3 = S3RangeCopy::build_with(builder(), service.clone()).unwrap();
        let (path, from) = (Path::from("t/new.parquet"), Path::from("t/a=b c/old.parquet"));
        (s3.copy_part(&path, &"up+load/1".to_owned(), 2, &from, 5..15).await, service)
    }

    #[tokio::test]
    async fn the_request_names_the_part_and_the_range_and_is_signed() {
        let (part, service) = copied(&[(200, COPIED)]).await;
        assert_eq!(part.unwrap().content_id, "\"a&b\"");
        let requests = service.requests.lock().unwrap();
        let (line, headers) = &requests[0];
        assert_eq!(
            line,
            "PUT https://s3.eu-west-1.amazonaws.com/lake/t/new.parquet?partNumber=3&uploadId=up%2Bload%2F1"
        );
        assert_eq!(headers["x-amz-copy-source"], "lake/t/a%3Db%20c/old.parquet");
        assert_eq!(headers["x-amz-copy-source-range"], "bytes=5-14");
        let signed = headers["authorization"].to_str().unwrap();
        assert!(signed.contains("x-amz-copy-source;x-amz-copy-source-range"), "{signed}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_overloaded_service_is_asked_again_even_if_the_status_was_200() {
        let (part, service) = copied(&[(503, SLOW_DOWN), (200, SLOW_DOWN), (429, ""), (200, COPIED)]).await;
        assert!(part.is_ok());
        assert_eq!(service.requests.lock().unwrap().len(), 4);
        let began = Instant::now();
        let (part, service) = copied(&[(500, ""); 11]).await;
        assert!(matches!(part, Err(Error::Generic { .. })));
        assert_eq!(service.requests.lock().unwrap().len(), 11);
        assert!(began.elapsed() < RETRY_TIME, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn other_failures_are_returned_at_once() {
        let (refused, _) = copied(&[(501, "<Error><Code>NotImplemented</Code></Error>")]).await;
        assert!(matches!(refused, Err(Error::NotImplemented { .. })), "{refused:?}");
        // A service that does not know the header stores an empty part.
        let (refused, _) = copied(&[(200, "")]).await;
        assert!(matches!(refused, Err(Error::NotImplemented { .. })), "{refused:?}");
        let (gone, _) = copied(&[(404, "<Error><Code>NoSuchKey</Code></Error>")]).await;
        assert!(matches!(gone, Err(Error::NotFound { path, .. }) if path == "t/a=b c/old.parquet"));
        let (denied, _) = copied(&[(403, "<Error><Code>AccessDenied</Code></Error>")]).await;
        assert!(matches!(denied, Err(Error::PermissionDenied { .. })), "{denied:?}");
    }

    #[tokio::test]
    async fn a_configuration_with_which_ranges_cannot_be_copied_is_refused() {
        let configured = builder().with_checksum_algorithm(object_store::aws::Checksum::SHA256);
        let s3 = S3RangeCopy::build_with(configured, Prepared::default()).unwrap();
        let copied = s3.copy_part(&Path::from("a"), &"1".to_owned(), 0, &Path::from("b"), 0..1).await;
        assert!(matches!(copied, Err(Error::NotImplemented { .. })), "{copied:?}");
    }
}
