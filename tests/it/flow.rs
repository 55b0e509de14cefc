//! Whole gateways, from a caller's request to its effect at the targets.

mod delivery;
