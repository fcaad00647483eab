//! The watchers of one stream: each is recorded when it is asked for, and when its client ends it.

use std::collections::HashSet;

use coord_proto::etcd::etcdserverpb::{WatchRequest, WatchResponse, watch_request::RequestUnion};
use tonic::Status;

use super::{Call, FINE, refused};
use crate::audit::Fact;

/// Records the watchers of a stream.
pub(in crate::etcd) struct Watchers {
    call: Call,
    /// Those whose end is recorded, because their beginning was.
    recorded: HashSet<i64>,
}

impl Watchers {
    pub(super) fn new(call: Call) -> Self {
        let recorded = HashSet::new();
        Self { call, recorded }
    }

    /// Records a request, if it is to be. `denied` says why it was refused before anybody looked at what it asks;
    /// `answer` is the first thing that was said to it, if any.
    pub(in crate::etcd) fn asked(
        &mut self,
        request: &WatchRequest,
        denied: Option<&Status>,
        answer: Option<&WatchResponse>,
    ) {
        match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                if !self.call.recorder.wants(create) {
                    return;
                }
                let Some(answer) = answer else { return };
                let id = [("watch_id", Fact::Number(answer.watch_id))];
                match denied {
                    Some(status) => self.call.record(create, None, refused(status), &[]),
                    // As clients see it: without a code.
                    None if answer.canceled => {
                        let why = ("Canceled", answer.cancel_reason.as_str());
                        self.call.record(create, None, why, &[]);
                    }
                    None => {
                        self.recorded.insert(answer.watch_id);
                        self.call.record(create, None, FINE, &id);
                    }
                }
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                if self.recorded.remove(&cancel.watch_id) {
                    self.call.record(cancel, None, FINE, &[]);
                }
            }
            Some(RequestUnion::ProgressRequest(_)) | None => {}
        }
    }
}
