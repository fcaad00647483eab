//! The flags of TLS.

use super::flag::{Flag, flag, switch};

pub(super) const FLAGS: &[Flag] = &[
    flag(
        "cert-file",
        "",
        "Certificate for clients' connections, PEM.",
    ),
    flag("key-file", "", "Key of --cert-file, PEM."),
    flag(
        "trusted-ca-file",
        "",
        "Authorities that clients' certificates are checked by, PEM; with it clients must have one.",
    ),
    switch("client-cert-auth", "Clients must have a certificate."),
    flag(
        "client-cert-file",
        "",
        "Taken and checked; this member opens no connection to a client port.",
    ),
    flag("client-key-file", "", "Key of --client-cert-file."),
    flag(
        "client-crl-file",
        "",
        "List of clients' certificates that are revoked, DER or PEM.",
    ),
    flag(
        "client-cert-allowed-hostname",
        "",
        "Comma-separated hosts, one of which a client's certificate must be for.",
    ),
    switch("auto-tls", "Make a certificate for clients' connections."),
    flag(
        "peer-cert-file",
        "",
        "Certificate for peers' connections, both ways, PEM.",
    ),
    flag("peer-key-file", "", "Key of --peer-cert-file, PEM."),
    flag(
        "peer-trusted-ca-file",
        "",
        "Authorities that peers' certificates are checked by, PEM; with it peers must have one.",
    ),
    switch("peer-client-cert-auth", "Peers must have a certificate."),
    flag(
        "peer-client-cert-file",
        "",
        "Certificate for connections to peers, if it is another than --peer-cert-file.",
    ),
    flag(
        "peer-client-key-file",
        "",
        "Key of --peer-client-cert-file.",
    ),
    flag(
        "peer-crl-file",
        "",
        "List of peers' certificates that are revoked, DER or PEM.",
    ),
    flag(
        "peer-cert-allowed-cn",
        "",
        "Comma-separated common names, one of which a peer's certificate must have.",
    ),
    flag(
        "peer-cert-allowed-hostname",
        "",
        "Comma-separated hosts, one of which a peer's certificate must be for.",
    ),
    switch(
        "peer-skip-client-san-verification",
        "Do not check that a peer's certificate is for the member that speaks.",
    ),
    switch(
        "peer-auto-tls",
        "Make a certificate for peers' connections, and believe any of theirs.",
    ),
    flag(
        "self-signed-cert-validity",
        "1",
        "Years that a certificate made by --auto-tls or --peer-auto-tls is valid.",
    ),
    flag(
        "cipher-suites",
        "",
        "Comma-separated cipher suites for TLS 1.2; all that are safe if it is empty.",
    ),
    flag(
        "tls-min-version",
        "TLS1.2",
        "Oldest version: TLS1.2 or TLS1.3.",
    ),
    flag(
        "tls-max-version",
        "",
        "Newest version: TLS1.2 or TLS1.3; empty is the newest.",
    ),
];
