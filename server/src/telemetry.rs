//! Log lines in etcd's shape: one JSON object each, with `level`, `ts`, `caller`, `msg` first; or the same for people.
//! [`Outputs`] says where they go.

mod outputs;
mod rotating;

use std::fmt::{self, Debug};
use std::sync::Mutex;

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

pub use outputs::{Output, Outputs};
pub use rotating::Rotation;

/// Starts logging at `level` to `outputs`, as JSON or for people. openraft speaks of every message at debug and of every
/// attempt to reach a lost peer at warn; `raft` itself says the part of that which matters. h2 and hyper warn of what a
/// client sends, as often as it sends it.
///
/// Calling it twice in one process keeps the first.
pub fn start(level: &str, shape: Shape, outputs: Outputs) {
    let filter = EnvFilter::new(format!(
        "{level},openraft=error,fjall=warn,lsm_tree=warn,h2=error,hyper=error"
    ));
    let lines = tracing_subscriber::fmt()
        .event_format(Lines(shape))
        .with_env_filter(filter)
        .with_writer(Mutex::new(outputs));
    // Fails only if logging has been started before.
    let _ = lines.try_init();
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The one that zap gives etcd's lines by default, which programs parse.
    Json,
    /// zap's console: the same parts between tabs, and the fields as JSON.
    Console,
}

struct Lines(Shape);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut ts = String::new();
        SystemTime.format_time(&mut Writer::new(&mut ts))?;
        let mut told = Told::default();
        event.record(&mut told);
        let metadata = event.metadata();
        let caller = caller(metadata.file(), metadata.line());
        let level = level_word(*metadata.level());
        let line = match self.0 {
            Shape::Json => json_line(level, &ts, &caller, &told),
            Shape::Console => console_line(level, &ts, &caller, &told),
        };
        writeln!(writer, "{line}")
    }
}

/// The message of an event, and its other fields in their order.
#[derive(Default)]
struct Told {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Told {
    fn field(&mut self, field: &Field, value: Value) {
        self.fields.push((field.name(), value));
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            _ => self.field(field, json!(text)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => self.field(field, json!(value)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, json!(value));
    }
}

/// The last folder and the file, as zap has it, with the line.
fn caller(file: Option<&str>, line: Option<u32>) -> String {
    let file = file.unwrap_or_default();
    let folder = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    format!("{}:{}", &file[folder..], line.unwrap_or(0))
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

fn console_line(level: &str, ts: &str, caller: &str, told: &Told) -> String {
    let message = told.message.replace('\n', " ");
    let mut line = format!("{ts}\t{level}\t{caller}\t{message}");
    let fields = told.fields.iter();
    let fields = fields.map(|(name, value)| format!("{}: {value}", json!(name)));
    let fields: Vec<_> = fields.collect();
    if !fields.is_empty() {
        line.push_str(&format!("\t{{{}}}", fields.join(", ")));
    }
    line
}

fn json_line(level: &str, ts: &str, caller: &str, told: &Told) -> String {
    // By hand: the order of the first four is part of the shape.
    let mut line = format!(
        "{{\"level\":\"{level}\",\"ts\":{},\"caller\":{},\"msg\":{}",
        json!(ts),
        json!(caller),
        json!(told.message)
    );
    for (name, value) in &told.fields {
        line.push_str(&format!(",{}:{value}", json!(name)));
    }
    line.push('}');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_of_etcds_shape() {
        let told = Told {
            message: "ready to serve client \"requests\"".to_owned(),
            fields: vec![("member_id", json!("8e9e")), ("index", json!(7))],
        };
        let caller = caller(Some("server/src/node/start.rs"), Some(12));
        assert_eq!(
            json_line("info", "2026-12-01T05:00:25.123456Z", &caller, &told),
            [
                r#"{"level":"info","ts":"2026-12-01T05:00:25.123456Z","caller":"node/start.rs:12","#,
                r#""msg":"ready to serve client \"requests\"","member_id":"8e9e","index":7}"#,
            ]
            .concat()
        );
        assert_eq!(
            console_line("info", "2026-12-01T05:00:25.123456Z", &caller, &told),
            "2026-12-01T05:00:25.123456Z\tinfo\tnode/start.rs:12\tready to serve client \"requests\"\t\
             {\"member_id\": \"8e9e\", \"index\": 7}"
        );
        let bare = Told {
            message: "ready".to_owned(),
            fields: Vec::new(),
        };
        assert_eq!(console_line("warn", "t", "c", &bare), "t\twarn\tc\tready");
    }
}
