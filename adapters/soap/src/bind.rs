//! The WSDL that a system's file names: loaded, and the port chosen whose operations its endpoints are.

use std::sync::Arc;

use gatehouse_core::adapter::SiteFiles;
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::yaml::Located;

use crate::contract::Contract;
use crate::envelope::Version;
use crate::file::SystemFile;
use crate::wsdl::{self, Operation, Port, Wsdl};

/// The most problems of a WSDL that are told one by one.
const MAX_TOLD: usize = 10;

/// A port of a WSDL.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) wsdl: Arc<Wsdl>,
    pub(crate) version: Version,
    /// Where the WSDL says that the system is; empty where it does not.
    pub(crate) address: String,
    operations: Vec<Arc<Operation>>,
}

/// Loads the WSDL of a file, if it names one. What is wrong is told at its place.
pub(crate) fn bind(
    read: &SystemFile,
    file: &SourceFile,
    site: &dyn SiteFiles,
    problems: &mut Problems,
) -> Option<Bound> {
    let named = read.wsdl.as_ref()?;
    let Some(root) = site.file(named) else {
        let message = format!("there is no file `{}` in the site", named.value);
        problems.push(
            Problem::error("wsdl-missing", file, named.span.clone(), message).help(
                "save the WSDL below the site's folder, its imports beside it; `gatehouse connect soap` does both",
            ),
        );
        return None;
    };
    let mut found = Problems::new();
    let wsdl = wsdl::read(root, &|path| site.file(path), &mut found);
    tell(found, file, named, problems);
    let wsdl = Arc::new(wsdl?);
    let port = choose(&wsdl, read, file, named, problems)?;
    let version = port.version()?;
    let (address, operations) = (port.address.clone(), port.operations.clone());
    Some(Bound { wsdl, version, address, operations })
}

/// Passes on what was found in the WSDL: every error, and the first of the warnings.
fn tell(found: Problems, file: &SourceFile, named: &Located<String>, problems: &mut Problems) {
    let has_errors = found.has_errors();
    let all = found.sorted();
    let more = all.len().saturating_sub(MAX_TOLD);
    for problem in all.into_iter().take(MAX_TOLD) {
        problems.push(problem);
    }
    if more > 0 {
        let message = format!("{more} more remarks on `{}` are not shown", named.value);
        let problem = Problem::warning("wsdl-more", file, named.span.clone(), message);
        problems.push(problem.help("`gatehouse wsdl show` shows all"));
    }
    if has_errors {
        problems.push(wsdl::unusable(file, named.span.clone(), named));
    }
}

/// The port that the file names, or the first that speaks the version of SOAP that it names, or the first.
fn choose<'a>(
    wsdl: &'a Wsdl,
    read: &SystemFile,
    file: &SourceFile,
    named: &Located<String>,
    problems: &mut Problems,
) -> Option<&'a Port> {
    let ports: Vec<_> = wsdl.soap_ports().map(|(_, port)| port).collect();
    if let Some(name) = &read.port {
        let found = ports.iter().find(|port| port.name == name.value);
        if found.is_none() {
            let message = format!("the WSDL has no SOAP port `{}`", name.value);
            let known = ports.iter().map(|port| port.name.as_str());
            problems.push(Problem::error("wsdl-port", file, name.span.clone(), message).did_you_mean(name, known));
        }
        return found.copied();
    }
    let wanted = read.soap.as_ref().map(|version| version.as_str());
    let fits = |port: &&&Port| match wanted {
        Some("1.2") => port.version() == Some(Version::V12),
        Some(_) => port.version() == Some(Version::V11),
        None => true,
    };
    let found = ports.iter().find(fits);
    if found.is_none() {
        let message = match wanted {
            Some(version) => format!("no port of the WSDL speaks SOAP {version}"),
            None => "no port of the WSDL speaks SOAP".to_owned(),
        };
        problems.push(Problem::error("wsdl-port", file, named.span.clone(), message));
    }
    found.copied()
}

impl Bound {
    /// The operation of an endpoint.
    pub(crate) fn contract(
        &self,
        name: &Located<String>,
        file: &SourceFile,
        problems: &mut Problems,
    ) -> Option<Contract> {
        let found = self.operations.iter().find(|operation| operation.name == name.value);
        if found.is_none() {
            let message = format!("the WSDL has no operation `{}`", name.value);
            let known = self.operations.iter().map(|operation| operation.name.as_str());
            problems.push(Problem::error("wsdl-operation", file, name.span.clone(), message).did_you_mean(name, known));
        }
        found.map(|operation| Contract { wsdl: self.wsdl.clone(), operation: operation.clone(), offered: None })
    }
}
