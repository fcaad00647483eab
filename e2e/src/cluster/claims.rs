//! Runs test bodies: each is one claim about a cluster, and holds on every kind of cluster.

use std::fmt::{Debug, Display};
use std::panic::Location;
use std::time::Duration;

use tonic::{Code, Status};

use super::{Cluster, Kind, process};

/// No claim takes longer than this on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// How a test body ends: `?` turns any error into a failure that knows its line.
pub type Claim = Result<(), Failure>;

/// Why a test body could not go on, and where.
#[derive(Debug)]
pub struct Failure {
    at: &'static Location<'static>,
    why: String,
}

impl<E: Display> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self {
            at: Location::caller(),
            why: format!("{error:#}"),
        }
    }
}

/// The code and text of a refusal; fails the test if there is an answer instead.
#[track_caller]
pub fn refused<T: Debug>(answer: Result<T, Status>) -> (Code, String) {
    match answer {
        Ok(answer) => panic!("was expected to be refused, but answered {answer:?}"),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

/// Starts a cluster of this kind and runs the body on it.
pub fn holds(kind: Kind, body: impl AsyncFnOnce(&mut Cluster) -> Claim) {
    run(async move {
        let mut cluster = Cluster::start(kind).await?;
        body(&mut cluster)
            .await
            .map_err(|failure| -> Failure { panic_with(&failure) })
    });
}

/// Runs a test body that needs no cluster, or starts its own.
pub fn run(body: impl Future<Output = Claim>) {
    // Not in the test's own time: after a build with other features the server has to be built anew. The body says what is
    // wrong with it.
    let _ = process::server_program();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the runtime needs epoll");
    match runtime.block_on(async { tokio::time::timeout(LIMIT, body).await }) {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => panic_with(&failure),
        Err(_) => panic!("not done after {} s", LIMIT.as_secs()),
    }
}

/// Fails while the cluster still lives, so that its members show what they wrote.
fn panic_with(failure: &Failure) -> ! {
    panic!("{}: {}", failure.at, failure.why)
}

/// Makes tests of bodies `async fn(&mut Cluster) -> Claim`: each runs on a member in this process and on a cluster of
/// three processes.
#[macro_export]
macro_rules! on_each_cluster {
    ($($body:ident),+ $(,)?) => {
        mod one_in_process {
            $(#[test] fn $body() {
                $crate::cluster::claims::holds($crate::cluster::Kind::InProcess, super::$body);
            })+
        }
        mod three_processes {
            $(#[test] fn $body() {
                $crate::cluster::claims::holds($crate::cluster::Kind::Processes(3), super::$body);
            })+
        }
    };
}

/// As [`on_each_cluster`], for bodies that need several members.
#[macro_export]
macro_rules! on_three_processes {
    ($($body:ident),+ $(,)?) => {
        mod several_members {
            $(#[test] fn $body() {
                $crate::cluster::claims::holds($crate::cluster::Kind::Processes(3), super::$body);
            })+
        }
    };
}
