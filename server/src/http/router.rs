//! The door of a call: gRPC by its services, everything else by its pages.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, Version, header::CONTENT_TYPE};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;

use super::bodies::{Received, Requests, Sending};
use super::gunzip::Gunzip;
use super::unary;
use super::words::{Words, in_go_words};
use crate::budget::{Held, OpenCall, Share};
use crate::metrics::{self, CountedBody, CountedRequest};

const GRPC_ENCODING: &str = "grpc-encoding";

/// A call on its way to its answer.
pub type Answering =
    Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send + 'static>>;
/// An answer to plain HTTP.
pub type Page = Response<Full<Bytes>>;

/// The body of an answer: a call's, or a page.
pub type Reply = Either<Sending<CountedBody<unary::Reply>>, Full<Bytes>>;
/// A call's request, as tonic's services take it.
pub type GrpcRequest = Request<Received<CountedRequest<Incoming>>>;

/// The gRPC services of a door.
pub trait Calls: Send + Sync + 'static {
    /// Answers a call of any service; one that is not known is `Unimplemented`.
    fn answer(&self, call: Call) -> Answering;
    /// Bytes of one request message of this call at most.
    fn request_bytes_max(&self, path: &str) -> usize;
    /// The words that its clients read when the front refuses.
    fn words(&self) -> &'static Words;
}

/// The plain HTTP of a door.
pub trait Pages: Send + Sync + 'static {
    /// Answers any request; one for nothing that is there, too.
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'static, Page>;
}

/// All that one port answers. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    /// `None` where pages are all there is.
    calls: Option<Arc<dyn Calls>>,
    pages: Arc<dyn Pages>,
}

impl Router {
    /// Calls go to `calls`, everything else to `pages`.
    pub fn new(calls: impl Calls, pages: impl Pages) -> Self {
        Self {
            calls: Some(Arc::new(calls)),
            pages: Arc::new(pages),
        }
    }

    /// A call is a request for a page that is not there.
    pub fn of_pages(pages: impl Pages) -> Self {
        Self {
            calls: None,
            pages: Arc::new(pages),
        }
    }

    /// The service of one connection.
    pub fn connection(&self, share: Arc<Share>) -> Connection {
        Connection {
            router: self.clone(),
            share,
        }
    }
}

/// All that one port answers, for one connection.
pub struct Connection {
    router: Router,
    share: Arc<Share>,
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Answering {
        let Router { calls, pages } = &self.router;
        let Some(calls) = calls.as_ref().filter(|_| is_grpc(&request)) else {
            let page = pages.answer(request);
            return Box::pin(async move { Ok(page.await.map(Either::Right)) });
        };
        let counted = metrics::call_started(request.uri().path());
        let Ok(open) = self.share.call() else {
            let refused = (calls.words().too_many)().into_http::<Body>();
            let refused = CountedBody::follow(counted, refused);
            let refused = refused.map(|_| Either::Right(Full::default()));
            return Box::pin(std::future::ready(Ok(refused)));
        };
        let open = Arc::new(open);
        let is_stream = counted
            .method()
            .is_some_and(|method| method.client_streaming || method.server_streaming);
        let requests = match is_stream {
            true => Requests::Stream,
            false => Requests::One,
        };
        request.extensions_mut().insert(self.share.clone());
        let bytes_max = calls.request_bytes_max(request.uri().path());
        let gunzip = is_gzip(&mut request).then(|| Gunzip::new(bytes_max));
        let words = calls.words();
        let request = request
            .map(|body| Received::new(CountedRequest(body), open.clone(), requests, gunzip, words));
        calls.answer(Call {
            request,
            counted,
            open,
            requests,
            bytes_max,
        })
    }
}

/// One gRPC call. The door says how it is answered: by [`unary`](Self::unary) or [`through`](Self::through).
pub struct Call {
    request: GrpcRequest,
    counted: metrics::Call,
    open: Arc<OpenCall>,
    requests: Requests,
    bytes_max: usize,
}

impl Call {
    /// The method: `/package.Service/Method`.
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// Whether the request's message is as it is, so that [`unary`](Self::unary) can read it.
    pub fn is_plain(&self) -> bool {
        unary::is_plain(&self.request)
    }

    /// Reads the one message and answers with what `handle` makes of it: for the calls that come often enough for each of
    /// tonic's layers to count (decision 0006).
    pub fn unary<M, A, F>(
        self,
        handle: impl FnOnce(tonic::Request<M>) -> F + Send + 'static,
    ) -> Answering
    where
        M: prost::Message + Default + 'static,
        A: prost::Message + 'static,
        F: Future<Output = Result<tonic::Response<A>, Status>> + Send + 'static,
    {
        let Self {
            request,
            counted,
            open,
            requests,
            bytes_max,
        } = self;
        Box::pin(async move {
            let response = unary::answer(request, bytes_max, handle).await;
            Ok(followed(response, counted, open, requests))
        })
    }

    /// Answers with what one of tonic's services says.
    pub fn through<F>(self, service: impl FnOnce(GrpcRequest) -> F + Send + 'static) -> Answering
    where
        F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let Self {
            request,
            counted,
            open,
            requests,
            ..
        } = self;
        Box::pin(async move {
            let response = service(request).await?;
            let response = in_go_words(response).map(Either::Right);
            Ok(followed(response, counted, open, requests))
        })
    }
}

/// A response whose end and bytes are counted. It brings along what its reading holds.
fn followed(
    mut response: Response<unary::Reply>,
    counted: metrics::Call,
    open: Arc<OpenCall>,
    requests: Requests,
) -> Response<Reply> {
    let read = response.extensions_mut().remove::<Arc<Held>>();
    let response = CountedBody::follow(counted, response);
    response.map(|body| Either::Left(Sending::new(body, open, requests, read)))
}

/// Whether the messages are compressed with gzip; once they are unpacked, they look as if they were not.
fn is_gzip<B>(request: &mut Request<B>) -> bool {
    let encoding = request.headers().get(GRPC_ENCODING);
    let is_gzip = encoding.is_some_and(|encoding| encoding == "gzip");
    if is_gzip {
        request.headers_mut().remove(GRPC_ENCODING);
    }
    is_gzip
}

/// gRPC needs HTTP/2; over HTTP/1.1 there is only plain HTTP.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.map(HeaderValue::as_bytes);
    request.version() == Version::HTTP_2
        && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}
