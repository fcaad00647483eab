//! Members on machines of 256 MB with a million keys, and all that the door accepts.

use anyhow::{Context, Result};
use coord_e2e::hostile::onslaught::{self, Size};

/// `COORD_SMALL_KEYS` has as many keys as a run is to have, `COORD_SMALL_MIB` the memory of a member's machine.
fn number(name: &str, usual: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is a number")),
        Err(_) => Ok(usual),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_256_megabytes_with_a_million_keys_outlive_all_that_is_asked() -> Result<()> {
    onslaught::run(Size {
        keys: usize::try_from(number("COORD_SMALL_KEYS", 1_000_000)?)?,
        memory_bytes: number("COORD_SMALL_MIB", 256)? << 20,
        seed: number("COORD_SEED", 1)?,
    })
    .await
}
