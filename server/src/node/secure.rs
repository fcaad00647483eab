//! Opens the TLS of both sides: the files that were named, or certificates that this member makes for itself.

use std::path::Path;

use super::Stop;
use crate::config::{self, Config, Invalid, Url};
use crate::http::Endpoint;
use crate::network::Network;
use crate::tls::{self, Client, Server, Unfit};

/// The TLS of this member's connections.
pub(super) struct Secured {
    /// For the client port, if it is asked for.
    pub(super) clients: Option<Server>,
    /// For the peers' port, if it is asked for.
    pub(super) peers: Option<Server>,
    /// How peers are reached.
    pub(super) network: Network,
}

impl From<Unfit> for Stop {
    fn from(Unfit { flag, why }: Unfit) -> Self {
        Self::Usage(Invalid { flag, why })
    }
}

/// Reads what the settings name, as far as a URL asks for it.
///
/// Errors: `Usage` with the flag whose file is missing or does not fit.
pub(super) fn open(config: &Config, network: &Network) -> Result<Secured, Stop> {
    let client_listen = [config.client.listen.as_slice(), &config.http_listen].concat();
    let clients = side(
        &config.client.tls,
        &client_listen,
        &config.data_dir,
        "client",
    )?;
    let peers = side(
        &config.peer.tls,
        &config.peer.listen,
        &config.data_dir,
        "peer",
    )?;
    let named = config.initial.cluster.iter().flat_map(|(_, urls)| urls);
    let is_asked = peers.identity.is_some()
        || peers.trusted_ca.is_some()
        || named.chain(&config.peer.advertise).any(Url::is_tls);
    let secured_network = match network {
        Network::Sockets if is_asked => Network::Secured(Client::open(peers.clone())?),
        other => other.clone(),
    };
    // As in etcd, the pages that have a port of their own are secured as the client port is.
    let client_urls = [client_listen.as_slice(), &config.metrics_listen].concat();
    Ok(Secured {
        clients: server(&client_urls, clients, "listen-client-urls")?,
        peers: server(&config.peer.listen, peers, "listen-peer-urls")?,
        network: secured_network,
    })
}

/// The settings of a side, with a certificate of its own where one is to be made.
fn side(
    tls: &config::Tls,
    listen: &[Url],
    data_dir: &Path,
    name: &str,
) -> Result<tls::Settings, Stop> {
    let mut settings = tls.settings.clone();
    let Some(years) = tls.auto_years else {
        return Ok(settings);
    };
    if settings.identity.is_some() {
        tracing::warn!(side = name, "a certificate is given, so none is made");
        return Ok(settings);
    }
    let folder = data_dir.join("fixtures").join(name);
    let hosts: Vec<String> = listen.iter().map(Url::host).collect();
    let flag = match name {
        "client" => "auto-tls",
        _ => "peer-auto-tls",
    };
    settings.identity = Some(tls::self_signed(flag, &folder, &hosts, years)?);
    settings.is_self_signed = true;
    Ok(settings)
}

fn server(
    urls: &[Url],
    settings: tls::Settings,
    listen: &'static str,
) -> Result<Option<Server>, Stop> {
    let Some(secure) = urls.iter().find(|url| url.is_tls()) else {
        if settings.identity.is_some() {
            tracing::warn!("--{listen} asks for no TLS: certificate and key are not used there");
        }
        return Ok(None);
    };
    let flags = settings.flags;
    if settings.identity.is_none() {
        let (cert, key) = (flags.cert, flags.key);
        let why = format!("--{cert} and --{key} must be given for {secure}");
        return Err(Invalid { flag: listen, why }.into());
    }
    Ok(Some(Server::open(settings)?))
}

/// Opens the ports of a side. Two URLs that differ in nothing but TLS are one port, on which both are spoken.
pub(super) async fn bind(
    network: &Network,
    urls: &[Url],
    server: Option<&Server>,
) -> Result<Vec<Endpoint>, Stop> {
    let mut endpoints = Vec::new();
    for (at, url) in urls.iter().enumerate() {
        let place = url.place();
        if urls[..at].iter().any(|other| other.place() == place) {
            continue;
        }
        let bound = match url.socket() {
            Some(path) => network.listen_at(path),
            None => network.listen(&url.authority()).await,
        };
        let listener = bound.map_err(|source| Stop::Listen {
            url: url.to_string(),
            source,
        })?;
        let here = || urls.iter().filter(|other| other.place() == place);
        endpoints.push(match server {
            Some(server) if here().all(Url::is_tls) => Endpoint::tls(listener, server.clone()),
            Some(server) if here().any(Url::is_tls) => Endpoint::either(listener, server.clone()),
            _ => Endpoint::plain(listener),
        });
    }
    Ok(endpoints)
}
