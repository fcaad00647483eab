//! The door of a call: gRPC by its services, posts to the gateway by the same services, everything else by its pages.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, Version, header::CONTENT_TYPE};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;

use super::access::Access;
use super::bodies::{Received, Requests, Sending};
use super::gateway::{self, Answers, Found, Place, Source};
use super::gunzip::Gunzip;
use super::page::{Page, refused_in_words};
use super::unary;
use super::words::{Words, in_go_words};
use crate::budget::{Held, OpenCall, Share};
use crate::metrics::{self, CountedBody, CountedRequest};
use crate::tls::ClientCertificate;

const GRPC_ENCODING: &str = "grpc-encoding";

/// A call on its way to its answer.
pub type Answering =
    Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send + 'static>>;

/// The body of an answer: a call's, one as JSON, or a page.
pub type Reply = Either<Sending<CountedBody<unary::Reply>>, Either<Sending<Answers>, Full<Bytes>>>;
/// A call's request, as tonic's services take it.
pub type GrpcRequest = Request<Received<CountedRequest<Source>>>;

/// The gRPC services of a door.
pub trait Calls: Send + Sync + 'static {
    /// Answers a call of any service; one that is not known is `Unimplemented`.
    fn answer(&self, call: Call) -> Answering;
    /// Bytes of one request message of this call at most.
    fn request_bytes_max(&self, path: &str) -> usize;
    /// Why the owner of this certificate may make no calls with JSON, if so.
    fn refuses_json(&self, certificate: &ClientCertificate) -> Option<&'static str>;
    /// The words that its clients read when the front refuses.
    fn words(&self) -> &'static Words;
}

/// The plain HTTP of a door.
pub trait Pages: Send + Sync + 'static {
    /// Answers any request; one for nothing that is there, too.
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'static, Page>;
}

/// The protocols of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Both,
    Grpc,
    PlainHttp,
}

/// All that one port answers. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    speaks: Speaks,
    /// `None` where pages are all there is.
    calls: Option<Arc<dyn Calls>>,
    pages: Arc<dyn Pages>,
    /// Whether calls can be made with JSON.
    has_gateway: bool,
    /// `None` where everybody may ask.
    access: Option<Arc<Access>>,
}

impl Router {
    /// Calls go to `calls`, everything else to `pages`.
    pub fn new(calls: impl Calls, pages: impl Pages) -> Self {
        Self {
            speaks: Speaks::Both,
            calls: Some(Arc::new(calls)),
            pages: Arc::new(pages),
            has_gateway: false,
            access: None,
        }
    }

    /// A call is a request for a page that is not there.
    pub fn of_pages(pages: impl Pages) -> Self {
        Self {
            speaks: Speaks::PlainHttp,
            calls: None,
            pages: Arc::new(pages),
            has_gateway: false,
            access: None,
        }
    }

    /// With the gateway, if so, and for those who may ask.
    #[must_use]
    pub fn with_gateway(mut self, has_gateway: bool, access: Access) -> Self {
        self.has_gateway = has_gateway;
        self.access = Some(Arc::new(access));
        self
    }

    /// The same for a port of gRPC alone: any other request is told so.
    #[must_use]
    pub fn of_grpc_alone(&self) -> Self {
        Self {
            speaks: Speaks::Grpc,
            ..self.clone()
        }
    }

    /// The same for a port of plain HTTP alone: a gRPC call is a request for a page that is not there.
    #[must_use]
    pub fn of_plain_http_alone(&self) -> Self {
        Self {
            speaks: Speaks::PlainHttp,
            ..self.clone()
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

    fn call(&self, request: Request<Incoming>) -> Answering {
        let speaks = self.router.speaks;
        let calls = self.router.calls.as_ref();
        match calls.filter(|_| speaks != Speaks::PlainHttp && is_grpc(&request)) {
            Some(calls) => self.grpc(calls, request),
            None if speaks == Speaks::Grpc => only_grpc(&request),
            None => self.plain(request),
        }
    }
}

impl Connection {
    fn grpc(&self, calls: &Arc<dyn Calls>, mut request: Request<Incoming>) -> Answering {
        let bytes_max = calls.request_bytes_max(request.uri().path());
        let gunzip = is_gzip(&mut request).then(|| Gunzip::new(bytes_max));
        self.begin(calls, request.map(Source::Grpc), gunzip, None)
    }

    /// Plain HTTP: a page, or the gateway's.
    fn plain(&self, request: Request<Incoming>) -> Answering {
        let Router {
            speaks: _,
            calls,
            pages,
            has_gateway,
            access,
        } = &self.router;
        let Some(access) = access else {
            let page = pages.answer(request);
            return Box::pin(async move { Ok(page.await.map(of_page)) });
        };
        if let Some(answer) = access.answer(&request) {
            return Box::pin(std::future::ready(Ok(answer.map(of_page))));
        }
        let origin = access.origin(request.headers());
        let calls = calls.as_ref().filter(|_| *has_gateway);
        let answering = match calls.filter(|_| gateway::is_below(request.uri().path())) {
            Some(calls) => self.gateway(calls, request),
            None => {
                let page = pages.answer(request);
                Box::pin(async move { Ok(page.await.map(of_page)) })
            }
        };
        Box::pin(async move {
            let mut answer = answering.await?;
            origin.mark(answer.headers_mut());
            Ok(answer)
        })
    }

    /// A call that is made with JSON.
    fn gateway(&self, calls: &Arc<dyn Calls>, request: Request<Incoming>) -> Answering {
        let certificate = request.extensions().get::<Arc<ClientCertificate>>();
        if let Some(why) = certificate.and_then(|certificate| calls.refuses_json(certificate)) {
            let refused = refused_in_words(StatusCode::BAD_REQUEST, why);
            return Box::pin(std::future::ready(Ok(refused.map(of_page))));
        }
        let place = match gateway::find(request.method(), request.uri().path()) {
            Found::Place(place) => place,
            Found::WrongVerb => return refused(&Status::unimplemented("Method Not Allowed")),
            Found::Nothing => return refused(&Status::not_found("Not Found")),
        };
        let (mut parts, body) = request.into_parts();
        // It never says who asks here.
        parts.extensions.remove::<Arc<ClientCertificate>>();
        let bytes_max = calls.request_bytes_max(place.method.path);
        let words = calls.words();
        let body = gateway::requests(body, &place, bytes_max, &self.share, words);
        let mut request = Request::new(body);
        *request.uri_mut() = http::Uri::from_static(place.method.path);
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = gateway::metadata(&parts.headers);
        *request.extensions_mut() = parts.extensions;
        self.begin(calls, request, None, Some(place))
    }

    /// Begins a call, which is answered as gRPC does or as JSON.
    fn begin(
        &self,
        calls: &Arc<dyn Calls>,
        mut request: Request<Source>,
        gunzip: Option<Gunzip>,
        json: Option<Place>,
    ) -> Answering {
        let counted = metrics::call_started(request.uri().path());
        let Ok(open) = self.share.call() else {
            let status = (calls.words().too_many)();
            let counted = CountedBody::follow(counted, status.clone().into_http::<Body>());
            return match json {
                Some(_) => refused(&status),
                None => {
                    let refused = counted.map(|_| of_page(Full::default()));
                    Box::pin(std::future::ready(Ok(refused)))
                }
            };
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
        let words = calls.words();
        let request = request
            .map(|body| Received::new(CountedRequest(body), open.clone(), requests, gunzip, words));
        calls.answer(Call {
            request,
            counted,
            open,
            requests,
            bytes_max,
            json,
        })
    }
}

/// The answer of a port of gRPC alone to anything else. Go's gRPC says this over HTTP/2, and hangs up over HTTP/1.1.
fn only_grpc(request: &Request<Incoming>) -> Answering {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.map_or_else(|| "\"\"".to_owned(), |kind| format!("{kind:?}"));
    let why = format!(
        "invalid gRPC request content-type {kind}: plain HTTP is served at --listen-client-http-urls"
    );
    let refused = refused_in_words(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why);
    Box::pin(std::future::ready(Ok(refused.map(of_page))))
}

fn of_page(page: Full<Bytes>) -> Reply {
    Either::Right(Either::Right(page))
}

/// The gateway's refusal of a request that becomes no call.
fn refused(status: &Status) -> Answering {
    let refused = gateway::answered_at_once(status).map(of_page);
    Box::pin(std::future::ready(Ok(refused)))
}

/// One gRPC call. The door says how it is answered: by [`unary`](Self::unary) or [`through`](Self::through).
pub struct Call {
    request: GrpcRequest,
    counted: metrics::Call,
    open: Arc<OpenCall>,
    requests: Requests,
    bytes_max: usize,
    /// The place it was posted to as JSON, which is how it is answered then.
    json: Option<Place>,
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
            json,
        } = self;
        Box::pin(async move {
            let response = unary::answer(request, bytes_max, handle).await;
            if let Some(place) = json {
                return Ok(as_json(response, place, counted, open, requests).await);
            }
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
            bytes_max: _,
            json,
        } = self;
        Box::pin(async move {
            let response = service(request).await?;
            let response = in_go_words(response).map(Either::Right);
            if let Some(place) = json {
                return Ok(as_json(response, place, counted, open, requests).await);
            }
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

/// The same as JSON. Boxed: most calls are not, and need not be as large.
fn as_json(
    mut response: Response<unary::Reply>,
    place: Place,
    counted: metrics::Call,
    open: Arc<OpenCall>,
    requests: Requests,
) -> Pin<Box<dyn Future<Output = Response<Reply>> + Send>> {
    Box::pin(async move {
        let read = response.extensions_mut().remove::<Arc<Held>>();
        let held = read.unwrap_or_else(|| Arc::new(open.request().share().hold()));
        let response = CountedBody::follow(counted, response);
        let response = gateway::answered(response, place, held).await;
        response.map(|body| match body {
            Either::Left(answers) => {
                Either::Right(Either::Left(Sending::new(answers, open, requests, None)))
            }
            Either::Right(error) => of_page(error),
        })
    })
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
