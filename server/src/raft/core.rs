//! openraft's handle, as this room has it.
//!
//! Its type names the state machine. That one names only books, which name no handle: there is no circle.

use super::storage::StateMachine;
use super::types::TypeConfig;

/// openraft's handle. Clones share it.
pub(super) type Core = openraft::Raft<TypeConfig, StateMachine>;
