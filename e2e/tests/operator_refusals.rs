//! Refusals of the API server at admission: the field's name and the reason, and members that run on untouched.

use coord_e2e::cluster::kubernetes::Kubernetes;
use serde_json::{Value, json};

/// A spec that nothing is wrong with. Paused: these tests are about admission and need no members.
fn good() -> Value {
    json!({"replicas": 3, "storage": {"size": "1Gi"}, "paused": true})
}

fn with(path: &str, value: Value) -> Value {
    let mut spec = good();
    let field = spec.pointer_mut(path);
    match field {
        Some(field) => *field = value,
        None => spec[path.trim_start_matches('/')] = value,
    }
    spec
}

#[tokio::test]
async fn a_spec_that_cannot_be_is_refused_by_field_and_reason() {
    let kubernetes = Kubernetes::connect().await.unwrap();
    let namespace = kubernetes.new_namespace("refusals").await.unwrap();
    let mut refused: Vec<(Value, &str)> = [0, 2, 4, -1, 1000]
        .map(|replicas| (with("/replicas", json!(replicas)), "spec.replicas"))
        .into();
    refused.push((with("/storage/size", json!("much")), "spec.storage.size"));
    refused.push((with("/storage/size", json!("-1Gi")), "spec.storage.size"));
    refused.push((with("/version", json!("newest")), "spec.version"));
    for (spec, field) in refused {
        let error = kubernetes
            .apply(&namespace, "refused", &spec)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(field), "{spec}: {error}");
    }
    assert!(
        kubernetes.get(&namespace, "refused").await.is_err(),
        "none was stored"
    );
    kubernetes.delete_namespace(&namespace).await.unwrap();
}

#[tokio::test]
async fn a_change_that_cannot_be_is_refused_and_the_cluster_keeps_its_spec() {
    let kubernetes = Kubernetes::connect().await.unwrap();
    let namespace = kubernetes.new_namespace("changes").await.unwrap();
    let before = kubernetes
        .apply(&namespace, "steady", &good())
        .await
        .unwrap();
    let error = kubernetes
        .apply(&namespace, "steady", &with("/replicas", json!(2)))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("spec.replicas"), "{error}");
    let error = kubernetes.scale(&namespace, "steady", 4).await.unwrap_err();
    assert!(error.to_string().contains("spec.replicas"), "{error}");
    let after = kubernetes.get(&namespace, "steady").await.unwrap();
    assert_eq!(before["spec"], after["spec"]);
    assert_eq!(
        before["metadata"]["generation"],
        after["metadata"]["generation"]
    );
    kubernetes.delete_namespace(&namespace).await.unwrap();
}

#[tokio::test]
async fn size_and_class_can_be_corrected_until_there_is_a_disk() {
    let kubernetes = Kubernetes::connect().await.unwrap();
    let namespace = kubernetes.new_namespace("disks").await.unwrap();
    let other = json!({"size": "512Mi", "storageClassName": "other"});
    kubernetes
        .apply(&namespace, "early", &good())
        .await
        .unwrap();
    kubernetes
        .apply(&namespace, "early", &with("/storage", other.clone()))
        .await
        .unwrap();

    let spec = json!({"replicas": 1, "storage": {"size": "64Mi"}});
    kubernetes.apply(&namespace, "late", &spec).await.unwrap();
    let limit = std::time::Duration::from_secs(300);
    kubernetes
        .wait_ready(&namespace, "late", limit)
        .await
        .unwrap();
    for (storage, field) in [
        (json!({"size": "32Mi"}), "spec.storage.size"),
        (
            json!({"size": "64Mi", "storageClassName": "other"}),
            "spec.storage.storageClassName",
        ),
    ] {
        let spec = json!({"replicas": 1, "storage": storage});
        let error = kubernetes
            .apply(&namespace, "late", &spec)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
    kubernetes.delete_namespace(&namespace).await.unwrap();
}
