//! Whole gateways, from a caller's request to its effect at the targets.

mod circuit;
mod delivery;
mod letters;
mod order;
mod request;
mod restart;
