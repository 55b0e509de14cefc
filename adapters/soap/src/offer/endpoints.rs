//! The endpoints of a system's file that name canonical types, gathered into one contract a path.

use std::collections::HashMap;

use gatehouse_core::adapter::SiteFiles;
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::yaml::Located;
use gatehouse_core::{json, xml};

use super::{Offer, Operation, Source, make};
use crate::file::{EndpointFile, SystemFile};

/// The operations on one path, which stand in one WSDL and so in one namespace.
struct Shared<'a> {
    path: &'a str,
    namespace: Option<&'a str>,
    operations: Vec<Operation>,
}

/// The contracts by path; what is wrong is told.
pub(crate) fn of_endpoints(
    read: &SystemFile,
    file: &SourceFile,
    site: &dyn SiteFiles,
    problems: &mut Problems,
) -> HashMap<String, Offer> {
    let own = format!("urn:gatehouse:{}", read.system.value);
    let mut shared: Vec<Shared<'_>> = Vec::new();
    let mut sound = true;
    for (name, endpoint) in &read.endpoints.0 {
        let (Some(kind), Some(listen)) = (&endpoint.kind, &endpoint.listen) else { continue };
        if read.wsdl.is_some() {
            let message = "`type` means nothing in a system with a WSDL";
            let problem = Problem::error("misplaced", file, kind.span.clone(), message);
            problems.push(problem.help("leave it out: the WSDL says it"));
            continue;
        }
        let Some((request, reply)) = sources(endpoint, kind, file, site, problems) else {
            sound = false;
            continue;
        };
        let namespace = endpoint.namespace.as_ref().map(|namespace| namespace.as_str());
        let index = shared.iter().position(|other| other.path == listen.as_str()).unwrap_or(shared.len());
        if index == shared.len() {
            shared.push(Shared { path: listen, namespace, operations: Vec::new() });
        }
        let shared = &mut shared[index];
        if shared.namespace != namespace {
            let span =
                endpoint.namespace.as_ref().map_or_else(|| name.span.clone(), |namespace| namespace.span.clone());
            let message = format!("the operations with a `type` on {} are not of one namespace", listen.value);
            let problem = Problem::error("two-namespaces", file, span, message);
            problems.push(problem.help("they stand in one WSDL: write the same `namespace` on each of them"));
        }
        let local = endpoint.operation.as_ref().unwrap_or(name).value.clone();
        let by_name = || format!("{}/{local}", namespace.unwrap_or(&own).trim_end_matches('/'));
        let action = endpoint.action.as_ref().map_or_else(by_name, |action| action.value.clone());
        shared.operations.push(Operation { name: local, action, request, reply });
    }
    let mut offers = HashMap::new();
    for Shared { path, namespace, operations } in shared.into_iter().filter(|_| sound) {
        // A name that XML does not take is told with its endpoint.
        if operations.iter().all(|operation| xml::is_name(&operation.name)) {
            let offer = make(&read.system, namespace.unwrap_or(&own), operations, problems);
            offers.extend(offer.map(|offer| (path.to_owned(), offer)));
        }
    }
    offers
}

/// The types of what comes and of what is answered.
fn sources(
    endpoint: &EndpointFile,
    kind: &Located<String>,
    file: &SourceFile,
    site: &dyn SiteFiles,
    problems: &mut Problems,
) -> Option<(Source, Option<Source>)> {
    let request = source(kind, file, site, problems);
    let reply = endpoint.reply.as_ref().and_then(|reply| reply.value.kind.as_ref());
    let reply = reply.map(|kind| source(kind, file, site, problems));
    match reply {
        Some(reply) => Some((request?, Some(reply?))),
        None => Some((request?, None)),
    }
}

/// The file of a canonical type; what is wrong with naming it is told.
fn source(name: &Located<String>, file: &SourceFile, site: &dyn SiteFiles, problems: &mut Problems) -> Option<Source> {
    let path = format!("types/{}.schema.json", name.value);
    let Some(found) = site.file(&path) else {
        let message = format!("there is no type `{}`", name.value);
        let problem = Problem::error("unknown-type", file, name.span.clone(), message);
        problems.push(problem.help(format!("write `{path}`, or leave `type` out")));
        return None;
    };
    let limits = BodyLimits { bytes: 16 << 20, text: 1 << 20, nodes: 1_000_000, ..BodyLimits::default() };
    match json::decode(found.text().as_bytes(), &limits) {
        Ok(root) => Some(Source { file: found, root }),
        Err(error) => {
            let message = format!("the type `{}` cannot be read: {error}", name.value);
            problems.push(Problem::error("unknown-type", file, name.span.clone(), message));
            None
        }
    }
}
