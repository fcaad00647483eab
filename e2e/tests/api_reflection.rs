//! gRPC's reflection: a client that was built without the definitions learns them from a member.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use coord_e2e::cluster::claims::Claim;
use coord_e2e::cluster::{Cluster, Kind, claims};
use coord_e2e::hostile::any_bytes;
use coord_proto::methods::METHODS;
use prost::Message;
use prost_reflect::DescriptorPool;
use tonic::transport::Channel;

/// `ServerReflectionRequest`, as much of it as is asked here.
#[derive(Clone, PartialEq, Message)]
struct Ask {
    #[prost(string, optional, tag = "3")]
    file: Option<String>,
    #[prost(string, optional, tag = "4")]
    symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    services: Option<String>,
}

/// `ServerReflectionResponse`, as much of it as is read here.
#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
}

#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// The files that a file needs.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, repeated, tag = "3")]
    needs: Vec<String>,
}

struct Learner {
    channel: Channel,
    version: &'static str,
    known: BTreeSet<String>,
    pool: DescriptorPool,
}

impl Learner {
    async fn ask(&self, ask: Ask) -> Result<Told> {
        let path = format!(
            "/grpc.reflection.{}.ServerReflection/ServerReflectionInfo",
            self.version
        );
        let told = any_bytes::call(self.channel.clone(), &path, ask.encode_to_vec()).await?;
        Ok(Told::decode(told)?)
    }

    /// Learns the file that an answer holds, after those that it needs.
    async fn learn(&mut self, told: Told) -> Result<()> {
        for file in told.files.context("a file")?.files {
            for need in File::decode(file.as_slice())?.needs {
                if self.known.insert(need.clone()) {
                    let ask = Ask {
                        file: Some(need),
                        ..Ask::default()
                    };
                    let told = self.ask(ask).await?;
                    Box::pin(self.learn(told)).await?;
                }
            }
            self.pool.decode_file_descriptor_proto(file.as_slice())?;
        }
        Ok(())
    }
}

#[test]
fn a_client_learns_all_services_by_either_version() {
    claims::run(async {
        let cluster = Cluster::start(Kind::InProcess).await?;
        for version in ["v1", "v1alpha"] {
            learns_all(&cluster, version).await?;
        }
        Ok(())
    });
}

async fn learns_all(cluster: &Cluster, version: &'static str) -> Claim {
    let channel = Channel::from_shared(cluster.endpoint(0))?.connect().await?;
    let mut learner = Learner {
        channel,
        version,
        known: BTreeSet::new(),
        pool: DescriptorPool::new(),
    };
    let ask = Ask {
        services: Some("*".to_owned()),
        ..Ask::default()
    };
    let told = learner.ask(ask).await?.services.context("services")?;
    let told: BTreeSet<_> = told.services.into_iter().map(|named| named.name).collect();
    let other = match version {
        "v1" => "v1alpha",
        _ => "v1",
    };
    let other = format!("grpc.reflection.{other}.ServerReflection");
    // Each version tells of itself.
    let there = METHODS.iter().map(|method| method.service.to_owned());
    let there: BTreeSet<_> = there.filter(|service| *service != other).collect();
    assert_eq!(told, there);
    let ask = Ask {
        symbol: Some("etcdserverpb.KV".to_owned()),
        ..Ask::default()
    };
    let told = learner.ask(ask).await?;
    learner.learn(told).await?;
    let kv = learner.pool.get_service_by_name("etcdserverpb.KV");
    let methods: Vec<_> = kv
        .context("it was learnt")?
        .methods()
        .map(|method| method.name().to_owned())
        .collect();
    let all = METHODS
        .iter()
        .filter(|method| method.service == "etcdserverpb.KV");
    assert_eq!(methods, Vec::from_iter(all.map(|method| method.name)));
    Ok(())
}
