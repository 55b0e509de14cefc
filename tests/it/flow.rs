//! Whole gateways, from a caller's request to its effect at the targets.

mod bodies;
mod circuit;
mod claims;
mod delivery;
mod door;
mod letters;
mod login;
mod merge;
mod namespaces;
mod nested;
mod order;
mod park;
mod request;
mod restart;
mod soap;
mod traces;
mod wire;
mod wsdl;
