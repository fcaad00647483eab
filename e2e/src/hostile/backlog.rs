//! Connections that a server has not accepted yet.
//!
//! Where more come than the kernel keeps for it, the kernel forgets some that the client takes for open. Nobody ever closes
//! those, so a test that waits for the server to close its connections must not let it come to that.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

/// A part of what any kernel keeps.
const WAITING_MAX: usize = 64;

/// Waits until the server at this address, of this machine, has accepted nearly all of its connections.
pub async fn has_accepted(address: SocketAddr) -> Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    while waiting(&std::fs::read_to_string("/proc/net/tcp")?, address.port())? > WAITING_MAX {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The length of the accept queue of a port's listener, from the table of sockets, proc(5): there the receive queue
/// counts connections.
fn waiting(table: &str, port: u16) -> Result<usize> {
    const LISTENS: &str = "0A";
    let local = format!(":{port:04X}");
    let queues = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_ours = fields.next()?.ends_with(&local);
        let listens = fields.nth(1)? == LISTENS;
        (is_ours && listens).then(|| fields.next())?
    });
    let queues = queues.with_context(|| format!("nobody listens on port {port}"))?;
    let (_, receive) = queues.split_once(':').context("two queues")?;
    Ok(usize::from_str_radix(receive, 16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_of_the_listening_socket_is_found() {
        const TABLE: &str = "  sl  local_address rem_address   st tx_queue:rx_queue tr tm->when\n   \
             0: 0100007F:094B 0100007F:C350 01 00000000:00000007 00:00000000\n   \
             1: 0100007F:094B 00000000:0000 0A 00000000:00000101 00:00000000\n";
        assert_eq!(waiting(TABLE, 2379).unwrap(), 257);
        assert!(waiting(TABLE, 2380).is_err());
    }
}
