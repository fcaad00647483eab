//! A call that took too long is told of in the log, with where its time went: in etcd's words and fields, and one more,
//! `steps`.
//!
//! Two limits as in etcd. `--warning-unary-request-duration` is for a call as its client sees it; beyond
//! `--warning-apply-duration` are reads as a whole, and the part of a change in which it was applied. Source: etcd
//! `etcdserver/api/v3rpc/interceptor.go`, `etcdserver/txn/util.go`.

pub(super) mod shown;

use std::any::Any;
use std::net::SocketAddr;

use tonic::{Request, Response, Status};

use self::shown::{Numbers, Shown};
use super::record::Asks;
use crate::clock::{self, Moment};
use crate::config::Slow;
use crate::go_duration;
use crate::http::Remote;
use crate::metrics::metrics;
use crate::steps::{self, Steps};

/// A call under way, as it will be told of.
pub(super) struct Watched {
    limits: Slow,
    method: &'static str,
    remote: Option<SocketAddr>,
    shown: Option<Shown>,
}

impl Watched {
    pub(super) fn begin<M: Asks>(limits: Slow, method: &'static str, request: &Request<M>) -> Self {
        let remote = request.extensions().get::<Remote>();
        Self {
            limits,
            method,
            remote: remote.and_then(|remote| remote.address),
            shown: request.get_ref().shown(),
        }
    }

    /// Tells of it, if it took too long.
    pub(super) fn ended<A: Any>(self, answered: &Result<Response<A>, Status>, steps: &Steps) {
        let now = Moment::now();
        let took = steps.took(now);
        let is_slow = took > self.limits.unary;
        let is_told = is_slow || tracing::enabled!(tracing::Level::DEBUG);
        if !is_told && took <= self.limits.apply {
            return;
        }
        let answer = answered.as_ref().ok();
        let answer = answer.map(|answer| answer.get_ref() as &dyn Any);
        let numbers = Numbers::of(self.shown.as_ref(), answer);
        let error = answered.as_ref().err().map(Status::message);
        self.apply(&numbers, error, steps, now);
        if is_told {
            self.stats(&numbers, is_slow, steps, now);
        }
    }

    /// etcd's line about what was applied or read.
    fn apply(&self, numbers: &Numbers, error: Option<&str>, steps: &Steps, now: Moment) {
        let Some(shown) = &self.shown else { return };
        let prefix = shown.prefix();
        // The time that a change waits for others is not its own.
        let took = match prefix {
            "" => steps.of(steps::APPLIED),
            _ => Some(steps.took(now)),
        };
        let Some(took) = took.filter(|took| *took > self.limits.apply) else {
            return;
        };
        metrics().slow_applies.inc();
        tracing::warn!(
            took = go_duration::text(took),
            "expected-duration" = go_duration::text(self.limits.apply),
            prefix,
            request = shown.applied(),
            response = numbers.response,
            error,
            steps = steps.text(now),
            "apply request took too long"
        );
    }

    /// etcd's line about a call.
    fn stats(&self, numbers: &Numbers, is_slow: bool, steps: &Steps, now: Moment) {
        let took = steps.took(now);
        let began = clock::rfc3339(clock::wall().before(took));
        let spent = go_duration::text(took);
        let remote = self
            .remote
            .map_or_else(|| "@".to_owned(), |from| from.to_string());
        let content = self.shown.as_ref().map(Shown::content).unwrap_or_default();
        let steps = steps.text(now);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    "start time" = began,
                    "time spent" = spent,
                    remote,
                    "response type" = self.method,
                    "request count" = numbers.request_count,
                    "request size" = numbers.request_size,
                    "response count" = numbers.response_count,
                    "response size" = numbers.response_size,
                    "request content" = content,
                    steps,
                    "request stats"
                )
            };
        }
        match is_slow {
            true => line!(warn),
            false => line!(debug),
        }
    }
}
