//! The order of a pass, before an API server that is a table of objects and a list of what was written.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::*;
use crate::execute::Writes;
use crate::leader::LeaseValidity;
use crate::member_client::Route;
use crate::metrics::Metrics;
use crate::validate::ServerImage;

const CLUSTERS: &str = "/apis/coord.dev/v1alpha1/namespaces/ns/coordclusters";
const CLAIMS: &str = "/api/v1/namespaces/ns/persistentvolumeclaims";

/// Objects by path, and what was written: method, path and body.
#[derive(Default)]
struct Table {
    objects: BTreeMap<String, Value>,
    written: Vec<(Method, String, Value)>,
}

impl Table {
    fn answer(&mut self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let path = path.trim_end_matches("/status").to_owned();
        if method != Method::GET {
            self.written.push((method, path.clone(), body.clone()));
            let object = self.objects.get(&path).cloned().unwrap_or(body);
            return (200, object);
        }
        if let Some(object) = self.objects.get(&path) {
            return (200, object.clone());
        }
        let is_list = !path
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains("demo"));
        if is_list {
            let items: Vec<&Value> = self
                .objects
                .iter()
                .filter(|(at, _)| at.starts_with(&format!("{path}/")))
                .map(|(_, object)| object)
                .collect();
            let list =
                json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items });
            return (200, list);
        }
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404,
            "message": format!("{path} not found"),
        });
        (404, status)
    }
}

/// Serves `table` on the loopback; returns a pass's context for it.
async fn context(table: Arc<Mutex<Table>>) -> Context {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let table = Arc::clone(&table);
            let serve = service_fn(move |request: Request<Incoming>| {
                let table = Arc::clone(&table);
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.expect("a body").to_bytes();
                    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                    let (code, answer) = table
                        .lock()
                        .expect("nothing panics while it holds the lock")
                        .answer(parts.method, parts.uri.path(), body);
                    let answer = Response::builder()
                        .status(code)
                        .header("content-type", "application/json")
                        .body(Full::new(Bytes::from(answer.to_string())));
                    Ok::<_, Infallible>(answer.expect("a response"))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), serve));
        }
    });
    let url = format!("http://{address}").parse().expect("a URL");
    let client = Client::try_from(Config::new(url)).expect("a client");
    let images = ServerImage {
        repository: "server".to_owned(),
        tag: "0.1.0".to_owned(),
    };
    let reporter = Reporter {
        controller: "test".to_owned(),
        instance: None,
    };
    Context::new(
        client.clone(),
        Route::Fixed(BTreeMap::new()),
        images,
        Writes::default(),
        LeaseValidity::endless(),
        Metrics::default(),
        Recorder::new(client, reporter),
    )
}

fn cluster(spec: Value) -> Value {
    json!({
        "apiVersion": "coord.dev/v1alpha1", "kind": "CoordCluster",
        "metadata": { "name": "demo", "namespace": "ns", "uid": "u1", "resourceVersion": "7", "generation": 1 },
        "spec": spec,
    })
}

fn claim() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "data-demo-0-0", "namespace": "ns", "uid": "c1", "resourceVersion": "3",
            "labels": { "coord.dev/cluster": "demo", "app.kubernetes.io/component": "member" },
            "ownerReferences": [{
                "apiVersion": "coord.dev/v1alpha1", "kind": "CoordCluster", "name": "demo", "uid": "u1",
            }],
        },
        "spec": { "resources": { "requests": { "storage": "1Gi" } } },
    })
}

/// The writes of one pass over `cluster` beside events.
async fn written(cluster: Value, others: &[(String, Value)]) -> Vec<(Method, String, Value)> {
    let table = Arc::new(Mutex::new(Table::default()));
    {
        let mut table = table.lock().expect("nobody else has it");
        table.objects.extend(others.iter().cloned());
        let at = format!("{CLUSTERS}/demo");
        table.objects.insert(at, cluster.clone());
    }
    let context = context(Arc::clone(&table)).await;
    let cached: DeserializeGuard<CoordCluster> =
        serde_json::from_value(cluster).expect("an object");
    pass(&cached, &context).await.expect("a pass");
    let table = table.lock().expect("the pass is over");
    let beside_events = table
        .written
        .iter()
        .filter(|(_, path, _)| !path.contains("/events"));
    beside_events.cloned().collect()
}

/// A6: what only protects is done whatever the spec says else.
#[tokio::test]
async fn disks_that_are_to_stay_are_untied_before_anything_is_asked_of_the_spec() {
    let paused = json!({ "replicas": 1, "paused": true, "storage": { "size": "1Gi" } });
    let invalid = json!({ "replicas": 2, "storage": { "size": "much" } });
    for spec in [paused, invalid] {
        let claims = [(format!("{CLAIMS}/data-demo-0-0"), claim())];
        let written = written(cluster(spec.clone()), &claims).await;
        let [(method, path, body)] = written.as_slice() else {
            panic!("{spec}: {written:?}");
        };
        assert_eq!(
            (method, path.as_str()),
            (&Method::PATCH, claims[0].0.as_str())
        );
        assert_eq!(body["metadata"]["ownerReferences"], json!([]), "{body}");
        assert_eq!(body["metadata"]["uid"], "c1");
        assert_eq!(body["metadata"]["resourceVersion"], "3");
    }
    // They may go with it where the spec says so.
    let delete = json!({ "replicas": 1, "paused": true, "storage": { "size": "1Gi", "reclaimPolicy": "Delete" } });
    let claims = [(format!("{CLAIMS}/data-demo-0-0"), claim())];
    let written = written(cluster(delete), &claims).await;
    assert!(
        written.iter().all(|(_, path, _)| *path != claims[0].0),
        "{written:?}"
    );
}

/// The status under the version that was read comes before what must not be done twice.
#[tokio::test]
async fn an_intent_is_written_before_anything_else_and_under_the_version_that_was_read() {
    let spec = json!({ "replicas": 3, "storage": { "size": "1Gi" } });
    let written = written(cluster(spec), &[]).await;
    let (method, path, body) = &written[0];
    assert_eq!(method, Method::PATCH);
    assert_eq!(*path, format!("{CLUSTERS}/demo"));
    assert_eq!(body["metadata"]["resourceVersion"], "7");
    assert_eq!(body["status"]["operation"]["step"], "RecordBootstrap");
    assert!(body["status"]["bootstrap"]["token"].is_string());
    assert_eq!(
        written.len(),
        1,
        "nothing exists before it is recorded who starts: {written:?}"
    );
}

#[tokio::test]
async fn a_cluster_that_cannot_be_read_says_so_and_nothing_of_it_is_touched() {
    let spec =
        json!({ "replicas": 3, "storage": { "size": "1Gi" }, "server": { "logLevel": "trace" } });
    let claims = [(format!("{CLAIMS}/data-demo-0-0"), claim())];
    let written = written(cluster(spec), &claims).await;
    let [(_, path, body)] = written.as_slice() else {
        panic!("{written:?}");
    };
    assert_eq!(*path, format!("{CLUSTERS}/demo"));
    let conditions = body["status"]["conditions"].as_array().expect("conditions");
    let reasons = conditions.iter().map(|c| c["reason"].as_str());
    assert!(
        reasons.clone().all(|reason| reason == Some("Unreadable")),
        "{body}"
    );
}
