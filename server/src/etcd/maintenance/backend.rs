//! A moment as etcd's backend: its buckets, and the bytes of what is in them.
//!
//! Source: etcd `server/storage/schema`, `server/storage/mvcc/revision.go`, and what an etcd 3.6 writes.

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::fs::FileExt;

use coord_proto::etcd::{authpb, etcdserverpb as pb};
use prost::Message;

use super::crc32c::Crc32c;
use crate::bbolt;
use crate::cli::ETCD_CLUSTER_VERSION;
use crate::command::{AuthTables, AuthUser, Lease, Member, Permission, Revision, Stamp};
use crate::coordinator::{Moment, Stored};
use crate::etcd::auth::shown;
use crate::etcd::convert;
use crate::scratch::{Sorter, Sparing};

/// The bucket of keys by revision.
pub(super) const KEY_BUCKET: &str = "key";
const META_BUCKET: &str = "meta";
/// In `meta`, and not the same on two members that hold the same: left out of hashes, as etcd does.
const OF_A_MEMBER: [&str; 3] = ["consistent_index", "term", "storageVersion"];

/// The mark of a removal, behind its revision.
const TOMBSTONE: u8 = b't';

/// `leasepb.Lease`.
#[derive(Clone, PartialEq, prost::Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

/// `authpb.User`.
#[derive(Clone, PartialEq, prost::Message)]
struct UserRecord {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    password: Vec<u8>,
    #[prost(string, repeated, tag = "3")]
    roles: Vec<String>,
    #[prost(message, optional, tag = "4")]
    options: Option<authpb::UserAddOptions>,
}

/// `authpb.Role`.
#[derive(Clone, PartialEq, prost::Message)]
struct RoleRecord {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    permissions: Vec<authpb::Permission>,
}

/// A bucket small enough to be in memory.
type Small = (&'static str, Vec<(Vec<u8>, Vec<u8>)>);

/// All buckets of a moment; [`keys`](Self::keys) is filled as its pages are read.
pub(super) struct Backend {
    small: Vec<Small>,
    pub(super) keys: Sorter,
}

impl Backend {
    pub(super) fn new(moment: &Moment, alarms: &[pb::AlarmMember], keys: Sorter) -> Self {
        let alarms = alarms
            .iter()
            .map(|alarm| (alarm.encode_to_vec(), Vec::new()));
        let small = vec![
            ("alarm", alarms.collect()),
            ("auth", auth(&moment.auth)),
            ("authRoles", moment.auth.roles.iter().map(role).collect()),
            ("authUsers", moment.auth.users.iter().map(user).collect()),
            (
                "cluster",
                vec![pair("clusterVersion", ETCD_CLUSTER_VERSION)],
            ),
            ("lease", moment.leases.iter().map(lease).collect()),
            ("members", moment.members.iter().map(member).collect()),
            ("members_removed", Vec::new()),
            (META_BUCKET, meta(moment)),
        ];
        Self { small, keys }
    }

    /// Writes etcd's database file. Returns its size.
    pub(super) fn write(self, file: &File) -> io::Result<u64> {
        let out = BufWriter::with_capacity(256 << 10, Sparing::new(file));
        let mut database = bbolt::Writer::new(out)?;
        for (name, mut pairs) in self.small {
            pairs.sort();
            let mut bucket = database.bucket(name.as_bytes());
            for (key, value) in &pairs {
                bucket.add(key, value)?;
            }
            bucket.end()?;
        }
        let mut bucket = database.bucket(KEY_BUCKET.as_bytes());
        self.keys.each(|place, value| {
            let (at, is_removal) = from_place(place);
            bucket.add(&bucket_key(at, is_removal), value)
        })?;
        bucket.end()?;
        let (_, start) = database.finish()?;
        file.write_all_at(&start, 0)?;
        Ok(file.metadata()?.len())
    }

    /// etcd's checksum over all buckets.
    pub(super) fn hash(self) -> io::Result<u32> {
        let mut sum = Crc32c::default();
        let mut small = self.small;
        small.sort();
        let (before, after) = small.split_at(small.partition_point(|(name, _)| *name < KEY_BUCKET));
        before.iter().for_each(|bucket| add(&mut sum, bucket));
        sum.add(KEY_BUCKET.as_bytes());
        self.keys.each(|place, value| {
            let (at, is_removal) = from_place(place);
            sum.add(&bucket_key(at, is_removal));
            sum.add(value);
            Ok(())
        })?;
        after.iter().for_each(|bucket| add(&mut sum, bucket));
        Ok(sum.value())
    }
}

fn add(sum: &mut Crc32c, (name, pairs): &Small) {
    let is_ignored = |key: &[u8]| {
        *name == META_BUCKET && OF_A_MEMBER.iter().any(|ignored| ignored.as_bytes() == key)
    };
    sum.add(name.as_bytes());
    let mut pairs: Vec<_> = pairs.iter().filter(|(key, _)| !is_ignored(key)).collect();
    pairs.sort();
    for (key, value) in pairs {
        sum.add(key);
        sum.add(value);
    }
}

/// Where a change stands, for the sorter.
pub(super) fn place(stored: &Stored) -> u128 {
    let (at, is_removal) = match stored {
        Stored::Put { at, .. } => (at, false),
        Stored::Removed { at, .. } => (at, true),
    };
    u128::from(at.main.0) << 64 | u128::from(at.sub) << 1 | u128::from(is_removal)
}

/// The reverse of [`place`].
pub(super) fn from_place(place: u128) -> (Stamp, bool) {
    let sub = (place >> 1) & u128::from(u32::MAX);
    let at = Stamp {
        main: Revision(u64::try_from(place >> 64).unwrap_or(u64::MAX)),
        sub: u32::try_from(sub).unwrap_or(u32::MAX),
    };
    (at, place & 1 == 1)
}

/// The key of a change in the bucket of keys.
pub(super) fn bucket_key(at: Stamp, is_removal: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&at.main.0.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&u64::from(at.sub).to_be_bytes());
    if is_removal {
        key.push(TOMBSTONE);
    }
    key
}

/// Its value there: an `mvccpb.KeyValue`, of a removal the key alone.
pub(super) fn bucket_value(stored: Stored) -> Vec<u8> {
    let pair = match stored {
        Stored::Put { pair, .. } => convert::key_value(pair),
        Stored::Removed { key, .. } => coord_proto::etcd::mvccpb::KeyValue {
            key,
            ..Default::default()
        },
    };
    pair.encode_to_vec()
}

fn meta(moment: &Moment) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ids = |learners: bool| -> Vec<u64> {
        let members = moment.members.iter();
        let members = members.filter(|member| member.is_learner == learners);
        members.map(|member| member.id.0).collect()
    };
    let mut places = serde_json::json!({ "voters": ids(false), "auto_leave": false });
    if !ids(true).is_empty() {
        places["learners"] = ids(true).into();
    }
    let mut meta = vec![
        pair("confState", places.to_string()),
        pair("storageVersion", ETCD_CLUSTER_VERSION),
    ];
    if let Some(applied) = moment.applied {
        meta.push(pair("consistent_index", applied.index.to_be_bytes()));
        meta.push(pair("term", applied.term.to_be_bytes()));
    }
    if let Some(main) = moment.stored.floor() {
        let at = bucket_key(Stamp { main, sub: 0 }, false);
        meta.push(pair("scheduledCompactRev", &at));
        meta.push(pair("finishedCompactRev", &at));
    }
    meta
}

fn auth(auth: &AuthTables) -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![
        pair("authEnabled", [u8::from(auth.is_enabled)]),
        pair("authRevision", auth.revision.to_be_bytes()),
    ]
}

fn user(user: &AuthUser) -> (Vec<u8>, Vec<u8>) {
    let record = UserRecord {
        name: user.name.clone().into(),
        password: user
            .password
            .as_ref()
            .map(|hash| hash.to_vec())
            .unwrap_or_default(),
        roles: user.roles.clone(),
        options: Some(authpb::UserAddOptions {
            no_password: user.password.is_none(),
        }),
    };
    pair(&user.name, record.encode_to_vec())
}

fn role((name, permissions): &(String, Vec<Permission>)) -> (Vec<u8>, Vec<u8>) {
    let record = RoleRecord {
        name: name.clone().into(),
        permissions: permissions.iter().cloned().map(shown).collect(),
    };
    pair(name, record.encode_to_vec())
}

fn lease(lease: &Lease) -> (Vec<u8>, Vec<u8>) {
    let record = LeaseRecord {
        id: lease.id.0,
        ttl: lease.ttl_seconds,
        remaining_ttl: lease.remaining_seconds,
    };
    (lease.id.0.to_be_bytes().to_vec(), record.encode_to_vec())
}

fn member(member: &Member) -> (Vec<u8>, Vec<u8>) {
    let Member {
        id,
        name,
        peer_urls,
        client_urls,
        is_learner,
    } = member;
    let mut json = serde_json::json!({ "id": id.0, "peerURLs": peer_urls });
    if *is_learner {
        json["isLearner"] = true.into();
    }
    if !name.is_empty() {
        json["name"] = name.as_str().into();
    }
    if !client_urls.is_empty() {
        json["clientURLs"] = client_urls.as_slice().into();
    }
    pair(&format!("{:x}", id.0), json.to_string())
}

fn pair(key: &str, value: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    (key.as_bytes().to_vec(), value.as_ref().to_vec())
}
