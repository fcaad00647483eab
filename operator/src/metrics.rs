//! The metrics that Prometheus can ask of the operator.

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// The operator's metrics and their registry.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Passes, by outcome: `ok` or `error`.
    pub passes: IntCounterVec,
    /// Time of a pass.
    pub pass_seconds: HistogramVec,
    /// Steps carried out, by name.
    pub steps: IntCounterVec,
    /// 1 for each cluster that is Ready.
    pub cluster_ready: IntGaugeVec,
    /// 1 while this operator is the one that acts.
    pub is_leader: IntGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("constant names are valid")
        };
        let passes = counter(
            "coord_operator_passes_total",
            "Passes over clusters, by outcome.",
            &["outcome"],
        );
        let steps = counter(
            "coord_operator_steps_total",
            "Steps carried out, by name.",
            &["step"],
        );
        let pass_seconds = HistogramVec::new(
            HistogramOpts::new("coord_operator_pass_duration_seconds", "Time of a pass."),
            &["outcome"],
        )
        .expect("constant names are valid");
        let cluster_ready = IntGaugeVec::new(
            Opts::new(
                "coord_operator_cluster_ready",
                "1 if the cluster serves and matches its spec.",
            ),
            &["namespace", "name"],
        )
        .expect("constant names are valid");
        let is_leader = IntGauge::new(
            "coord_operator_leader",
            "1 while this operator is the one that acts.",
        )
        .expect("constant names are valid");
        let registry = Registry::new();
        let all: [Box<dyn prometheus::core::Collector>; 5] = [
            Box::new(passes.clone()),
            Box::new(steps.clone()),
            Box::new(pass_seconds.clone()),
            Box::new(cluster_ready.clone()),
            Box::new(is_leader.clone()),
        ];
        for collector in all {
            registry.register(collector).expect("names are unique");
        }
        Self {
            registry,
            passes,
            pass_seconds,
            steps,
            cluster_ready,
            is_leader,
        }
    }
}

impl Metrics {
    /// All metrics in Prometheus' text format.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail");
        text
    }
}
