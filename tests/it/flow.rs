//! Whole gateways, from a caller's request to its effect at the targets.

mod bodies;
mod circuit;
mod claims;
mod delivery;
mod door;
mod h2;
mod letters;
mod login;
mod merge;
mod namespaces;
mod nested;
mod order;
mod park;
mod pass;
mod request;
mod restart;
mod soap;
mod traces;
mod wire;
mod wsdl;
