//! A way to the API server on which writes go wrong, as its seed says: refused, done without an answer, or slow.
//!
//! Reads and watches pass. It speaks plain HTTP on this host and keeps the caller's credentials.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The fault that a write meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiFault {
    /// Nothing.
    None,
    /// Not done: 409.
    Conflict,
    /// Not done: 429.
    TooMany,
    /// Not done: 500.
    Failed,
    /// Done, and answered with 504.
    DoneUnanswered,
    /// Done, and the connection is cut instead of an answer.
    DoneCut,
    /// Done, and not answered for longer than anybody waits.
    DoneSlow,
}

/// As long as the operator waits for a write, and a little more.
const SLOW: Duration = Duration::from_secs(9);

/// The proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct ApiFaults {
    address: String,
    dealt: Arc<Mutex<BTreeMap<ApiFault, u32>>>,
    task: JoinHandle<()>,
}

impl ApiFaults {
    /// Listens, and passes on to the API server of `client`, which must add no credentials of its own.
    pub async fn start(client: Client, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let dealt = Arc::new(Mutex::new(BTreeMap::new()));
        let deck = Arc::new(Deck {
            client,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            dealt: Arc::clone(&dealt),
        });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let deck = Arc::clone(&deck);
                tokio::spawn(async move {
                    let service = service_fn(move |request| Arc::clone(&deck).answer(request));
                    // A cut connection is an error, and meant.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self {
            address,
            dealt,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How often each fault has happened.
    #[must_use]
    pub fn dealt(&self) -> BTreeMap<ApiFault, u32> {
        self.dealt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for ApiFaults {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Deck {
    client: Client,
    random: Mutex<StdRng>,
    dealt: Arc<Mutex<BTreeMap<ApiFault, u32>>>,
}

impl Deck {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>> {
        if request.method() == Method::GET {
            return self.pass_on(request).await;
        }
        match self.draw() {
            ApiFault::None => self.pass_on(request).await,
            ApiFault::Conflict => Ok(refusal(409, "Conflict")),
            ApiFault::TooMany => Ok(refusal(429, "TooManyRequests")),
            ApiFault::Failed => Ok(refusal(500, "InternalError")),
            ApiFault::DoneUnanswered => {
                self.pass_on(request).await?;
                Ok(refusal(504, "Timeout"))
            }
            ApiFault::DoneCut => {
                self.pass_on(request).await?;
                anyhow::bail!("cut");
            }
            ApiFault::DoneSlow => {
                let answer = self.pass_on(request).await?;
                sleep(SLOW).await;
                Ok(answer)
            }
        }
    }

    /// One write in twenty goes wrong: a pass makes about ten, and must get through some day. The slow way is rare,
    /// because it is slow.
    fn draw(&self) -> ApiFault {
        let number = {
            let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
            random.random_range(0..300)
        };
        let fault = match number {
            0..3 => ApiFault::Conflict,
            3..6 => ApiFault::TooMany,
            6..9 => ApiFault::Failed,
            9..12 => ApiFault::DoneUnanswered,
            12..14 => ApiFault::DoneCut,
            14 => ApiFault::DoneSlow,
            _ => ApiFault::None,
        };
        let mut dealt = self.dealt.lock().unwrap_or_else(PoisonError::into_inner);
        *dealt.entry(fault).or_default() += 1;
        fault
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        // The client fills in the server's own.
        parts.headers.remove("host");
        let path = parts
            .uri
            .path_and_query()
            .context("a request has a path")?
            .clone();
        parts.uri = path.as_str().parse()?;
        let request = Request::from_parts(parts, Body::from(body.to_vec()));
        Ok(self.client.send(request).await?)
    }
}

fn refusal(code: u16, reason: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": "a fault test says no",
        "code": code,
    });
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Body::from(status.to_string().into_bytes()))
        .expect("a constant header is valid")
}
