//! Contents and answers of members, read and judged one call at a time.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use futures::{StreamExt, stream};
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Request, Status};

use super::{ALL, PATIENCE, START, Size};
use crate::clients::etcd::request::everything;
use crate::clients::etcd::{Client, Watch};
use crate::cluster::within;
use crate::hostile::any_bytes;
use crate::hostile::extremes::Extreme;

/// How many pairs a member has at a revision, and a hash of them.
pub(super) async fn contents(client: &Client, revision: i64) -> Result<(usize, u64)> {
    const PAGE: i64 = 2000;
    within(START, "the member has caught up", || async {
        let now = client.status().await?.header.context("a header")?.revision;
        ensure!(now >= revision, "it is at {now} of {revision}");
        Ok(())
    })
    .await?;
    let mut next = Bytes::from_static(b"\0");
    let mut hash = DefaultHasher::new();
    let mut count = 0;
    loop {
        let request = pb::RangeRequest {
            key: next.clone(),
            revision,
            limit: PAGE,
            serializable: true,
            ..everything()
        };
        let page = within(START, "a page is served", || async {
            Ok(client.range(request.clone()).await?)
        })
        .await?;
        for kv in &page.kvs {
            hash.write(&kv.encode_to_vec());
            count += 1;
        }
        match page.kvs.last() {
            Some(last) if page.more => next = [last.key.as_ref(), &[0]].concat().into(),
            _ => return Ok((count, hash.finish())),
        }
    }
}

/// Reads a watcher's events until all keys were deleted, each once and in order.
pub(super) async fn deletions(mut watch: Watch, size: Size, prev_kv: bool) -> Result<()> {
    let mut told = 0;
    let mut last = Bytes::new();
    while told < size.keys {
        let response = watch
            .within(size.patience())
            .await?
            .context("a deletion was not told")?;
        ensure!(!response.canceled, "{response:?}");
        for event in response.events {
            let kv = event.kv.context("an event has a key")?;
            if !kv.key.starts_with(ALL.0.as_bytes()) {
                continue;
            }
            ensure!(kv.key > last, "{:?} after {last:?}", kv.key);
            ensure!(event.prev_kv.is_some() == prev_kv, "{:?}", kv.key);
            last = kv.key;
            told += 1;
        }
    }
    Ok(())
}

pub(super) async fn ask(client: &Client, extreme: &Extreme) -> Code {
    if !extreme.is_stream {
        let call = any_bytes::call(client.channel(), &extreme.path, extreme.request.clone());
        return code_of(&timeout(PATIENCE, call).await);
    }
    let talk = async {
        let mut grpc = tonic::client::Grpc::new(client.channel());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let path = extreme.path.as_str().try_into();
        let path = path.map_err(|_| Status::internal("a path"))?;
        let requests = stream::iter([extreme.request.clone()]).chain(stream::pending());
        let responses = grpc
            .streaming(Request::new(requests), path, any_bytes::AnyBytes)
            .await?;
        let mut responses = responses.into_inner();
        // The first says whether it was taken; some of what follows is read.
        for _ in 0..10 {
            if responses.message().await?.is_none() {
                break;
            }
        }
        Ok(())
    };
    code_of(&timeout(Duration::from_secs(2), talk).await)
}

/// The outcome of a call; one that was given up is `Cancelled`.
pub(super) fn code_of<T>(answer: &Result<Result<T, Status>, tokio::time::error::Elapsed>) -> Code {
    match answer {
        Ok(Ok(_)) => Code::Ok,
        Ok(Err(status)) => status.code(),
        Err(_) => Code::Cancelled,
    }
}
