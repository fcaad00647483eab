//! The JSON gateway: the same requests to a real etcd and to Coord, and the same answers of both. Ids,
//! terms and sizes are masked.

use anyhow::Context;
use coord_e2e::clients::etcd::request::put;
use coord_e2e::clients::http::{Ask, ask};
use coord_e2e::cluster::claims::{self, Claim};
use coord_e2e::cluster::{Cluster, Kind};
use coord_proto::methods::METHODS;
use serde_json::Value;

#[path = "api_gateway/pair.rs"]
mod pair;

use pair::Pair;

#[test]
fn keys_transactions_and_compactions_are_answered_as_etcd_does() {
    claims::run(async {
        let pair = Pair::start(&[]).await?;
        for (path, body) in [
            ("put", r#"{"key":"Zm9v","value":"YmFy"}"#),
            ("put", r#"{"key":"Zm9v","value":"YmF6","prevKv":true}"#),
            ("put", r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#),
            (
                "put",
                r#"{"key":"Zm9v","value":"YQ==","ignore_value":true}"#,
            ),
            ("put", r#"{"key":"Zm9y","value":""}"#),
            ("put", r#"{"key":"-_8","value":"-_8="}"#),
            ("put", r#"{"key":"YQ==","lease":"99"}"#),
            ("put", r#"{}"#),
            ("range", r#"{"key":"Zm9v"}"#),
            ("range", r#"{"key":"AA==","range_end":"AA=="}"#),
            (
                "range",
                r#"{"key":"AA==","range_end":"AA==","limit":1,"sort_order":"DESCEND","sort_target":"MOD"}"#,
            ),
            (
                "range",
                r#"{"key":"AA==","rangeEnd":"AA==","sortOrder":2,"sortTarget":"CREATE","keys_only":true}"#,
            ),
            (
                "range",
                r#"{"key":"AA==","range_end":"AA==","count_only":true}"#,
            ),
            ("range", r#"{"key":"Zm9v","revision":"2"}"#),
            ("range", r#"{"key":"Zm9v","revision":2e0}"#),
            ("range", r#"{"key":"Zm9v","revision":"1000"}"#),
            ("range", r#"{"key":"bm9uZQ==","serializable":true}"#),
            ("range", r#"{"key":"Zm9v","nope":[1,{"a":null}]}"#),
            ("range", r#"{"key":"Zm9v","sort_order":"NOPE"}"#),
            ("range", r#"{"key":"Zm9v","sort_order":77}"#),
            (
                "range",
                r#"{"key":"Zm9v","limit":null,"range_end":null} what follows"#,
            ),
            ("range", ""),
            (
                "txn",
                r#"{"compare":[{"key":"Zm9v","target":"VALUE","value":"YmF6"}],"success":[{"request_range":{"key":"Zm9v"}},{"requestDeleteRange":{"key":"Zm9y","prev_kv":true}}],"failure":[{"request_put":{"key":"Zm9v","value":""}}]}"#,
            ),
            (
                "txn",
                r#"{"compare":[{"result":"GREATER","key":"Zm9v","target":"VERSION","version":"99"}],"failure":[{"requestTxn":{"success":[{"requestPut":{"key":"dA=="}}]}}]}"#,
            ),
            (
                "txn",
                r#"{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}"#,
            ),
            ("txn", r#"{"success":[{}]}"#),
            ("txn", "{}"),
            ("deleterange", r#"{"key":"dA==","prev_kv":true}"#),
            ("deleterange", r#"{"key":"dA=="}"#),
            ("deleterange", "{}"),
            ("compaction", r#"{"revision":"3","physical":true}"#),
            ("compaction", r#"{"revision":"3"}"#),
            ("compaction", r#"{"revision":"1000"}"#),
            ("range", r#"{"key":"Zm9v","revision":"2"}"#),
        ] {
            pair.post(&format!("/v3/kv/{path}"), body).await?;
        }
        pair.post("/v3beta/kv/range", r#"{"key":"Zm9v"}"#).await?;
        Ok(())
    });
}

#[test]
fn what_cannot_be_read_or_is_not_there_is_refused_with_etcds_code() {
    claims::run(async {
        let pair = Pair::start(&[]).await?;
        for body in [
            r#"{"key":"!!"}"#,
            r#"{"key":5}"#,
            r#"{"key":"Zm9v","limit":"x"}"#,
            r#"{"key":"Zm9v","limit":1.5}"#,
            r#"{"key":"Zm9v","limit":"99999999999999999999"}"#,
            r#"{"key":"Zm9v","serializable":"yes"}"#,
            "[]",
            "null",
            "nonsense",
        ] {
            let asked = Ask {
                body,
                ..Ask::default()
            };
            let [etcd, coord] = pair.both("POST", "/v3/kv/range", asked).await?;
            assert_eq!(coord.status, etcd.status, "{body}: {coord:?} {etcd:?}");
            // The words are each library's own; the code is not.
            for page in [&etcd, &coord] {
                assert!(
                    page.whole_body().replace(' ', "").contains("\"code\":3,"),
                    "{page:?}"
                );
            }
        }
        pair.post("/v3/kv/range", r#"{"key":"Zm9v""#).await?;
        for path in ["/v3/kv/nope", "/v3/kv/range/", "/v3/", "/v3/kv/rangestream"] {
            pair.post(path, "{}").await?;
        }
        for verb in ["GET", "PUT", "DELETE", "OPTIONS"] {
            pair.same(verb, "/v3/kv/range", Ask::default()).await?;
        }
        pair.same("GET", "/v3/kv/nope", Ask::default()).await?;
        Ok(())
    });
}

#[test]
fn leases_watches_locks_and_elections_are_answered_as_etcd_does() {
    claims::run(async {
        let pair = Pair::start(&[]).await?;
        pair.post("/v3/lease/grant", r#"{"TTL":"1000","ID":"7"}"#)
            .await?;
        pair.post("/v3/lease/grant", r#"{"TTL":1000,"ID":7}"#)
            .await?;
        pair.post("/v3/kv/put", r#"{"key":"bA==","lease":"7"}"#)
            .await?;
        pair.post("/v3/lease/keepalive", r#"{"ID":"7"}"#).await?;
        pair.post("/v3/lease/keepalive", r#"{"ID":"8"} {"ID":"7"}"#)
            .await?;
        pair.post("/v3/lease/keepalive", "").await?;
        pair.post("/v3/lease/keepalive", "nonsense").await?;
        for root in ["/v3/lease", "/v3/kv/lease"] {
            pair.post(&format!("{root}/leases"), "{}").await?;
            pair.post(&format!("{root}/timetolive"), r#"{"ID":"6"}"#)
                .await?;
        }
        pair.post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#)
            .await?;
        // From history: one revision after the other would come as one message or as several.
        let watch = r#"{"create_request":{"key":"Zm9v","start_revision":"3"}}"#;
        pair.lines("/v3/watch", watch, 2).await?;
        let watch = r#"{"create_request":{"key":"YQ=="}}{"create_request":{"key":"Yg==","watch_id":"5"}} {"cancel_request":{"watch_id":"5"}} {"create_request":{"key":"Yg==","range_end":"YQ=="}}"#;
        pair.lines("/v3/watch", watch, 4).await?;
        pair.lines(
            "/v3/watch",
            r#"{"createRequest":{"key":"YQ==","filters":["NOPUT"]}}"#,
            1,
        )
        .await?;
        pair.post("/v3/kv/compaction", r#"{"revision":"3"}"#)
            .await?;
        pair.lines(
            "/v3/watch",
            r#"{"create_request":{"key":"YQ==","start_revision":"1"}}"#,
            2,
        )
        .await?;
        pair.post("/v3/lock/lock", r#"{"name":"bA==","lease":"7"}"#)
            .await?;
        pair.post("/v3/lock/unlock", r#"{"key":"bC83"}"#).await?;
        pair.post("/v3/lock/lock", r#"{"name":"bA==","lease":"9"}"#)
            .await?;
        pair.post("/v3/election/leader", r#"{"name":"ZQ=="}"#)
            .await?;
        pair.post(
            "/v3/election/campaign",
            r#"{"name":"ZQ==","lease":"7","value":"dg=="}"#,
        )
        .await?;
        pair.post("/v3/election/leader", r#"{"name":"ZQ=="}"#)
            .await?;
        pair.lines("/v3/election/observe", r#"{"name":"ZQ=="}"#, 1)
            .await?;
        pair.post("/v3/election/proclaim", "{}").await?;
        pair.post(
            "/v3/election/proclaim",
            r#"{"leader":{"name":"ZQ==","key":"ZS83","rev":"7","lease":"7"},"value":"dw=="}"#,
        )
        .await?;
        pair.post(
            "/v3/election/resign",
            r#"{"leader":{"name":"ZQ==","key":"ZS83","rev":"7","lease":"7"}}"#,
        )
        .await?;
        pair.post("/v3/lease/revoke", r#"{"ID":"7"}"#).await?;
        pair.post("/v3/kv/lease/revoke", r#"{"ID":"7"}"#).await?;
        Ok(())
    });
}

#[test]
fn members_and_maintenance_are_answered_as_etcd_does() {
    claims::run(async {
        let mut pair = Pair::start(&[]).await?;
        pair.post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#)
            .await?;
        pair.post("/v3/cluster/member/list", "{}").await?;
        pair.post("/v3/cluster/member/list", r#"{"linearizable":true}"#)
            .await?;
        let add = r#"{"peerURLs":["http://127.0.0.1:1"],"isLearner":true}"#;
        pair.learn("LEARNER", "/v3/cluster/member/add", add, "/member/ID")
            .await?;
        for (path, body) in [
            ("cluster/member/add", r#"{"peerURLs":["nonsense"]}"#),
            ("cluster/member/list", "{}"),
            (
                "cluster/member/update",
                r#"{"ID":"LEARNER","peerURLs":["http://127.0.0.1:2"]}"#,
            ),
            ("cluster/member/promote", r#"{"ID":"LEARNER"}"#),
            ("cluster/member/promote", r#"{"ID":"1"}"#),
            ("cluster/member/remove", r#"{"ID":"LEARNER"}"#),
            ("cluster/member/remove", r#"{"ID":"LEARNER"}"#),
            ("maintenance/status", "{}"),
            ("maintenance/alarm", "{}"),
            (
                "maintenance/alarm",
                r#"{"action":"ACTIVATE","memberID":"5","alarm":"NOSPACE"}"#,
            ),
            ("maintenance/alarm", r#"{"action":"GET"}"#),
            (
                "maintenance/alarm",
                r#"{"action":"DEACTIVATE","memberID":"5","alarm":1}"#,
            ),
            ("maintenance/hashkv", "{}"),
            ("maintenance/hashkv", r#"{"revision":"1000"}"#),
            ("maintenance/transfer-leadership", r#"{"targetID":"1"}"#),
            (
                "maintenance/downgrade",
                r#"{"action":"VALIDATE","version":"nonsense"}"#,
            ),
            ("maintenance/downgrade", r#"{"action":"CANCEL"}"#),
            ("maintenance/defragment", "{}"),
        ] {
            pair.post(&format!("/v3/{path}"), body).await?;
        }
        pair.lines("/v3/maintenance/snapshot", "{}", 1).await?;
        Ok(())
    });
}

#[test]
fn users_show_their_token_in_a_header_as_with_etcd() {
    claims::run(async {
        let mut pair = Pair::start(&[]).await?;
        for (path, body) in [
            ("status", "{}"),
            ("enable", "{}"),
            ("authenticate", r#"{"name":"root","password":"root"}"#),
            ("user/add", r#"{"name":"root","password":"root"}"#),
            ("user/add", r#"{"name":"root","password":"root"}"#),
            ("user/add", r#"{"name":"ann","password":"ann"}"#),
            (
                "user/add",
                r#"{"name":"bob","options":{"no_password":true}}"#,
            ),
            ("user/list", "{}"),
            ("user/changepw", r#"{"name":"ann","password":"ann2"}"#),
            ("role/add", r#"{"name":"root"}"#),
            ("role/add", r#"{"name":"reader"}"#),
            (
                "role/grant",
                r#"{"name":"reader","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#,
            ),
            ("role/grant", r#"{"name":"reader","perm":{"key":"Yw=="}}"#),
            ("role/grant", r#"{"name":"nobody","perm":{"key":"Yw=="}}"#),
            ("role/get", r#"{"role":"reader"}"#),
            ("role/list", "{}"),
            ("role/revoke", r#"{"role":"reader","key":"Yw=="}"#),
            ("user/grant", r#"{"user":"root","role":"root"}"#),
            ("user/grant", r#"{"user":"ann","role":"reader"}"#),
            ("user/get", r#"{"name":"ann"}"#),
            ("user/revoke", r#"{"name":"ann","role":"nope"}"#),
            ("user/delete", r#"{"name":"bob"}"#),
            ("role/delete", r#"{"role":"nope"}"#),
            ("enable", "{}"),
            ("status", "{}"),
            ("authenticate", r#"{"name":"ann","password":"wrong"}"#),
            ("disable", "{}"),
        ] {
            pair.post(&format!("/v3/auth/{path}"), body).await?;
        }
        pair.post("/v3/kv/range", r#"{"key":"YQ=="}"#).await?;
        let login = r#"{"name":"ann","password":"ann2"}"#;
        pair.learn("ANN", "/v3/auth/authenticate", login, "/token")
            .await?;
        let login = r#"{"name":"root","password":"root"}"#;
        pair.learn("ROOT", "/v3/auth/authenticate", login, "/token")
            .await?;
        for (token, path, body) in [
            ("ANN", "/v3/kv/put", r#"{"key":"YQ=="}"#),
            ("Bearer ANN", "/v3/kv/range", r#"{"key":"YQ=="}"#),
            ("ANN", "/v3/kv/put", r#"{"key":"eg=="}"#),
            ("wrong", "/v3/kv/put", r#"{"key":"YQ=="}"#),
            ("ANN", "/v3/maintenance/defragment", "{}"),
            ("ROOT", "/v3/kv/put", r#"{"key":"eg=="}"#),
        ] {
            let headers = [("Authorization", token)];
            let asked = Ask {
                headers: &headers,
                body,
                ..Ask::default()
            };
            pair.same("POST", path, asked).await?;
        }
        for token in ["ANN", "ROOT"] {
            let headers = [("Authorization", token)];
            let body = r#"{"create_request":{"key":"eg=="}}"#;
            let asked = Ask {
                headers: &headers,
                body,
                lines: 1,
            };
            pair.same("POST", "/v3/watch", asked).await?;
        }
        let headers = [("Grpc-Metadata-Token", "ANN")];
        let body = r#"{"key":"YQ=="}"#;
        let asked = Ask {
            headers: &headers,
            body,
            ..Ask::default()
        };
        pair.same("POST", "/v3/kv/range", asked).await?;
        let headers = [("Authorization", "ROOT")];
        let asked = Ask {
            headers: &headers,
            body: "{}",
            ..Ask::default()
        };
        pair.same("POST", "/v3/auth/disable", asked).await?;
        Ok(())
    });
}

#[test]
fn hosts_and_origins_are_let_in_as_with_etcd() {
    claims::run(async {
        let flags = [
            ("cors", "http://a.example:80,https://b.example:443"),
            ("host-whitelist", "localhost,good.example"),
        ];
        let pair = Pair::start(&flags).await?;
        for host in [
            "good.example",
            "good.example:1",
            "bad.example",
            "bad.example:2379",
        ] {
            for (verb, path) in [
                ("GET", "/health"),
                ("POST", "/v3/kv/range"),
                ("OPTIONS", "/v3/kv/range"),
            ] {
                let headers = [("Host", host)];
                let asked = Ask {
                    headers: &headers,
                    body: "",
                    ..Ask::default()
                };
                let [etcd, coord] = pair.both(verb, path, asked).await?;
                assert_eq!(
                    coord.status, etcd.status,
                    "{host} {path}: {coord:?} {etcd:?}"
                );
                if coord.status == 421 {
                    assert_eq!(coord.whole_body(), etcd.whole_body());
                }
            }
        }
        for origin in [
            "http://a.example:80",
            "https://b.example:443",
            "http://bad.example:80",
            "null",
        ] {
            let headers = [("Host", "localhost"), ("Origin", origin)];
            let asked = Ask {
                headers: &headers,
                body: r#"{"key":"YQ=="}"#,
                ..Ask::default()
            };
            pair.same("POST", "/v3/kv/range", asked).await?;
            pair.same("OPTIONS", "/v3/kv/range", asked).await?;
        }
        Ok(())
    });
}

#[test]
fn without_the_gateway_nothing_is_there_as_with_etcd() {
    claims::run(async {
        let pair = Pair::start(&[("enable-grpc-gateway", "false")]).await?;
        let asked = Ask {
            body: r#"{"key":"YQ=="}"#,
            ..Ask::default()
        };
        let [etcd, coord] = pair.both("POST", "/v3/kv/range", asked).await?;
        assert_eq!((coord.status, etcd.status), (404, 404));
        Ok(())
    });
}

/// Every place of the definitions leads somewhere: an empty request is an answer or a refusal of the call, never of the
/// place.
#[test]
fn every_place_is_there() {
    claims::run(async {
        let cluster = Cluster::start(Kind::InProcess).await?;
        // Below another name than the empty one, under which all keys that begin with a slash wait.
        let body = r#"{"name":"ZQ=="}"#;
        for method in METHODS.iter().filter(|method| !method.client_streaming) {
            // It waits for a leader.
            for path in method
                .posts
                .iter()
                .filter(|path| !path.ends_with("observe"))
            {
                let asked = Ask {
                    body: if path.contains("election") {
                        body
                    } else {
                        "{}"
                    },
                    lines: 1,
                    ..Ask::default()
                };
                let page = ask("POST", &cluster.endpoint(0), path, asked).await?;
                assert_ne!(
                    page.whole_body(),
                    r#"{"code":5,"message":"Not Found"}"#,
                    "{path}"
                );
                let kind = page.header("content-type");
                assert_eq!(kind, Some("application/json"), "{path}: {page:?}");
            }
        }
        claim_large_answers(&cluster).await
    });
}

/// An answer of many pieces is whole.
async fn claim_large_answers(cluster: &Cluster) -> Claim {
    let value = "A".repeat(1_000_000);
    for number in 0..5 {
        let body = format!(r#"{{"key":"YWE{number}","value":"{value}"}}"#);
        let asked = Ask {
            body: &body,
            ..Ask::default()
        };
        let page = ask("POST", &cluster.endpoint(0), "/v3/kv/put", asked).await?;
        assert_eq!(page.status, 200, "{page:?}");
    }
    let body = r#"{"key":"YQ==","range_end":"Yg=="}"#;
    let asked = Ask {
        body,
        ..Ask::default()
    };
    let page = ask("POST", &cluster.endpoint(0), "/v3/kv/range", asked).await?;
    let answer: Value = serde_json::from_str(&page.whole_body())?;
    let kvs = answer["kvs"].as_array().context("a list")?;
    assert_eq!(kvs.len(), 5);
    assert!(kvs.iter().all(|kv| kv["value"] == value.as_str()));
    Ok(())
}

#[test]
fn a_watch_is_answered_at_once_and_ends_with_its_member() {
    claims::run(async {
        let mut cluster = Cluster::start(Kind::Processes(1)).await?;
        let endpoint = cluster.endpoint(0);
        let watch = r#"{"create_request":{"key":"YQ=="}}"#;
        let until = async |lines| {
            let asked = Ask {
                body: watch,
                lines,
                ..Ask::default()
            };
            ask("POST", &endpoint, "/v3/watch", asked).await
        };
        let created = until(1).await?.whole_body();
        assert!(created.contains(r#""created":true"#), "{created}");
        let client = cluster.client()?;
        let ending = async {
            // The watch may not be there yet, so it is written until the end.
            for _ in 0..10 {
                client.put(put("a", "1")).await?;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            drop(client);
            cluster.stop(0).await
        };
        let (all, ended) = tokio::join!(until(0), ending);
        ended?;
        let all = all?.whole_body();
        assert!(all.contains(r#""events""#), "{all}");
        Ok(())
    });
}
