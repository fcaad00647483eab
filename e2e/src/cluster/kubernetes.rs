//! Drives Coord clusters on Kubernetes for the operator's tests: apply, wait, scale, reach, kill.
//!
//! Runs on the instance `e2e` of the local Kubernetes, or on the Kubernetes of `KUBECONFIG`. Objects go in and come
//! out as JSON: a test must be able to say what the types refuse, and reads status as users do.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::operator::Operators;
use super::process::failpoints_operator;
use crate::demo::is_ready;
use crate::local_kubernetes::run::run;
use crate::local_kubernetes::steps::Steps;
use crate::local_kubernetes::{Instance, Node};
use crate::product::Images;
use crate::site::{Endpoint, OPERATOR, OPERATOR_NAMESPACE, Site};

/// The instance that all tests of the operator share, unless `COORD_TEST_INSTANCE` names another. `make test` takes it
/// down at its end.
const INSTANCE: &str = "e2e";
/// Cargo's profile of the binaries under test.
const PROFILE: &str = "dev";
/// One request that takes longer than this is lost.
const REQUEST: Duration = Duration::from_secs(20);

/// A Kubernetes with the operator of this checkout in it.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    installed: Arc<Installed>,
}

/// A site with the images and the operator of this checkout.
struct Installed {
    site: Site,
    images: Images,
}

impl Kubernetes {
    /// Connects; the first call of a process brings up what is missing, builds the images and installs the operator.
    ///
    /// Call it once per test: a client belongs to the runtime that made it, and each test has its own.
    pub async fn connect() -> Result<Self> {
        let installed = tokio::task::spawn_blocking(shared).await??;
        let kubeconfig = Kubeconfig::read_from(installed.site.kubeconfig())?;
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.connect_timeout = Some(REQUEST);
        Ok(Self {
            client: Client::try_from(config)?,
            installed,
        })
    }

    /// As [`Kubernetes::connect`], for tests that run operators of their own: the installed one sleeps until somebody
    /// connects again. Only on the local Kubernetes, whose pods this host reaches.
    pub async fn without_operator() -> Result<Self> {
        let kubernetes = Self::connect().await?;
        kubernetes.site().local().context(
            "tests that break nodes and operators need the local Kubernetes: unset KUBECONFIG",
        )?;
        let installed = Arc::clone(&kubernetes.installed);
        tokio::task::spawn_blocking(move || installed.site.pause_operator()).await??;
        Ok(kubernetes)
    }

    /// Operators of `namespace`, as processes with the rights that the chart gives.
    pub async fn operators(&self, namespace: &str) -> Result<Operators> {
        let (installed, namespace) = (Arc::clone(&self.installed), namespace.to_owned());
        let make = move || {
            let kubeconfig = installed.site.operator_kubeconfig()?;
            let (repository, tag) = installed.images.server.parts();
            let server = (repository.to_owned(), tag.to_owned());
            Operators::new(&failpoints_operator()?, &kubeconfig, &namespace, server)
        };
        tokio::task::spawn_blocking(make).await?
    }

    /// A way to the API server that adds no credentials and never tries again: for proxies.
    pub async fn bare_client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.site().kubeconfig())?;
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.auth_info = kube::config::AuthInfo::default();
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    /// Runs a line such as `kubectl get pods` and returns what it printed. No quoting: words end at spaces.
    pub async fn run(&self, line: String) -> Result<String> {
        let installed = Arc::clone(&self.installed);
        tokio::task::spawn_blocking(move || installed.site.run(&line)).await?
    }

    /// Does something to a node of the local Kubernetes, off the async threads.
    pub async fn with_node(
        &self,
        name: &str,
        act: impl FnOnce(&Node) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let instance = self
            .site()
            .local()
            .context("only the local Kubernetes has such nodes")?;
        let node = instance.node(name)?;
        tokio::task::spawn_blocking(move || act(&node)).await?
    }

    /// The reference of the server image of this checkout.
    #[must_use]
    pub fn server_image(&self) -> String {
        self.installed.images.server.reference.clone()
    }

    /// Loads the same server into the nodes of the local Kubernetes under another tag, and returns its reference.
    pub async fn server_tagged(&self, tag: &str) -> Result<String> {
        let (installed, tag) = (Arc::clone(&self.installed), tag.to_owned());
        let load = move || {
            let archive = installed.images.server_tagged(&tag)?;
            let instance = installed.site.local();
            let instance = instance.context("only into the local Kubernetes are images loaded")?;
            instance.import_image(&archive)?;
            Ok(archive.reference)
        };
        tokio::task::spawn_blocking(load).await?
    }

    /// For what this driver does not do.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// For `kubectl`, `helm` and `etcdctl`, and for the nodes of the local Kubernetes.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.installed.site
    }

    /// Installs the operator of this checkout again, after a test has changed or removed it. Blocks.
    pub fn reinstall_operator(&self) -> Result<()> {
        let mut steps = Steps::new(2);
        let images = self.installed.site.load_images(PROFILE, &mut steps)?;
        self.installed.site.install_operator(&images, &mut steps)
    }

    /// A new namespace that enforces the `restricted` pod security level; its name begins with `prefix`.
    pub async fn new_namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{:08x}", rand::random::<u32>());
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }))?;
        Api::all(self.client())
            .create(&kube::api::PostParams::default(), &namespace)
            .await?;
        Ok(name)
    }

    /// Deletes a namespace and all in it; does not wait.
    pub async fn delete_namespace(&self, name: &str) -> Result<()> {
        Api::<Namespace>::all(self.client())
            .delete(name, &DeleteParams::background())
            .await?;
        Ok(())
    }

    /// Creates or changes a CoordCluster by server-side apply, as `kubectl apply` would.
    ///
    /// Errors: what the API server answers; for a refused spec that is a [`kube::Error::Api`] whose message names the
    /// field.
    pub async fn apply(
        &self,
        namespace: &str,
        name: &str,
        spec: &Value,
    ) -> Result<Value, kube::Error> {
        let object = json!({
            "apiVersion": "coord.dev/v1alpha1",
            "kind": "CoordCluster",
            "metadata": {"name": name},
            "spec": spec,
        });
        let params = PatchParams::apply("coord-e2e").force();
        let applied = self
            .clusters(namespace)
            .patch(name, &params, &Patch::Apply(&object))
            .await?;
        serde_json::to_value(applied).map_err(kube::Error::SerdeError)
    }

    /// The CoordCluster as it is now.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Value> {
        let object = timeout(REQUEST, self.clusters(namespace).get(name)).await??;
        Ok(serde_json::to_value(object)?)
    }

    /// Sets the number of members through the scale subresource, as `kubectl scale` does.
    pub async fn scale(&self, namespace: &str, name: &str, replicas: i32) -> Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        let params = PatchParams::default();
        self.clusters(namespace)
            .patch_scale(name, &params, &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Deletes the CoordCluster and waits until it and its pods are gone. Disks stay or go as its policy says.
    pub async fn delete(&self, namespace: &str, name: &str, limit: Duration) -> Result<()> {
        self.clusters(namespace)
            .delete(name, &DeleteParams::foreground())
            .await?;
        self.wait_for(namespace, limit, || async {
            let left = self
                .pods(namespace)
                .list(&ListParams::default())
                .await?
                .items
                .len();
            let is_there = self.clusters(namespace).get_opt(name).await?.is_some();
            let done = !is_there && left == 0;
            Ok(if done {
                Ok(())
            } else {
                Err(format!("{name} there: {is_there}, pods: {left}"))
            })
        })
        .await
    }

    /// Waits until the CoordCluster is Ready for its current spec, and returns it.
    ///
    /// Errors: not within `limit`; the message holds its status, the pods, the events and the operator's log.
    pub async fn wait_ready(&self, namespace: &str, name: &str, limit: Duration) -> Result<Value> {
        self.wait_for(namespace, limit, || async {
            Ok(is_ready(&self.get(namespace, name).await?))
        })
        .await?;
        self.get(namespace, name).await
    }

    /// [`Kubernetes::apply`], then [`Kubernetes::wait_ready`].
    pub async fn apply_ready(
        &self,
        namespace: &str,
        name: &str,
        spec: &Value,
        limit: Duration,
    ) -> Result<Value> {
        self.apply(namespace, name, spec).await?;
        self.wait_ready(namespace, name, limit).await
    }

    /// Waits until `ready` says `Ok(())`; while it does not, it says what is missing. Errors of requests are retried.
    pub async fn wait_for<F>(
        &self,
        namespace: &str,
        limit: Duration,
        ready: impl Fn() -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<Result<(), String>>>,
    {
        let end = Instant::now() + limit;
        loop {
            let missing = match ready().await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(missing)) => missing,
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() > end {
                bail!(
                    "after {} s: {missing}\n{}",
                    limit.as_secs(),
                    self.describe(namespace).await
                );
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// A way from this process to the cluster's client Service: any ready member.
    pub async fn endpoint(&self, namespace: &str, name: &str) -> Result<Endpoint> {
        self.reach(namespace, &format!("{name}-client")).await
    }

    /// A way from this process to one member, through an address of its own. Only on the local Kubernetes, which
    /// routes to pods.
    pub async fn member_url(&self, namespace: &str, pod: &str) -> Result<String> {
        let pod = self.pods(namespace).get(pod).await?;
        let address = pod.status.and_then(|status| status.pod_ip);
        Ok(format!(
            "http://{}:2379",
            address.context("the pod has no address yet")?
        ))
    }

    /// Kills a pod without grace, and waits until another of its name is there (ready or not).
    pub async fn kill_pod(&self, namespace: &str, pod: &str) -> Result<()> {
        let pods = self.pods(namespace);
        let uid = pods
            .get(pod)
            .await?
            .metadata
            .uid
            .context("a pod has a uid")?;
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        pods.delete(pod, &params).await?;
        self.wait_for(namespace, Duration::from_secs(60), || async {
            let now = pods.get_opt(pod).await?.and_then(|pod| pod.metadata.uid);
            let is_new = now.is_some_and(|now| now != uid);
            Ok(if is_new {
                Ok(())
            } else {
                Err(format!("no new pod {pod}"))
            })
        })
        .await
    }

    /// Runs etcd's own client against `url` and returns what it printed. Words end at spaces.
    pub async fn etcdctl(&self, url: &str, words: &str) -> Result<String> {
        let mut command = self.installed.site.program("etcdctl")?;
        command
            .arg("--endpoints")
            .arg(url)
            .args(words.split_whitespace());
        tokio::task::spawn_blocking(move || run(&mut command)).await?
    }

    /// The state that a person would look at when a test fails.
    pub async fn describe(&self, namespace: &str) -> String {
        let installed = Arc::clone(&self.installed);
        let lines = [
            format!("kubectl get coordclusters --namespace={namespace} --output=yaml"),
            format!("kubectl get pods,pvc --namespace={namespace} --output=wide"),
            format!("kubectl get events --namespace={namespace} --sort-by=.lastTimestamp"),
            format!(
                "kubectl logs deployment/{OPERATOR} --namespace={OPERATOR_NAMESPACE} --tail=40"
            ),
        ];
        let describe = move || {
            let said = lines.map(|line| {
                let said = installed
                    .site
                    .run(&line)
                    .unwrap_or_else(|error| format!("{error:#}"));
                format!("$ {line}\n{said}")
            });
            said.join("\n")
        };
        tokio::task::spawn_blocking(describe)
            .await
            .unwrap_or_else(|error| error.to_string())
    }

    async fn reach(&self, namespace: &str, service: &str) -> Result<Endpoint> {
        let (installed, namespace, service) = (
            Arc::clone(&self.installed),
            namespace.to_owned(),
            service.to_owned(),
        );
        tokio::task::spawn_blocking(move || installed.site.reach(&namespace, &service, 2379))
            .await?
    }

    fn clusters(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("coord.dev", "v1alpha1", "CoordCluster");
        let resource = ApiResource::from_gvk(&kind);
        Api::namespaced_with(self.client(), namespace, &resource)
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client(), namespace)
    }
}

/// The site of this process, opened by the first test that needs it. A failure is everyone's.
fn shared() -> Result<Arc<Installed>> {
    static SITE: OnceLock<Result<Arc<Installed>, String>> = OnceLock::new();
    let opened = SITE.get_or_init(|| open().map(Arc::new).map_err(|error| format!("{error:#}")));
    opened.clone().map_err(anyhow::Error::msg)
}

fn open() -> Result<Installed> {
    let name = std::env::var("COORD_TEST_INSTANCE").unwrap_or_else(|_| INSTANCE.to_owned());
    let instance = Instance::named(name.parse()?);
    let mut steps = Steps::new(Site::steps(&instance)?);
    let site = Site::open(instance, &mut steps)?;
    let images = site.load_images(PROFILE, &mut steps)?;
    site.install_operator(&images, &mut steps)?;
    Ok(Installed { site, images })
}
