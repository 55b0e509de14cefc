//! The files that a WSDL is made of: itself, and what it and they import or include. Found among the site's files and in a
//! catalogue of well-known schemas; the network is never asked.

use std::collections::{HashMap, VecDeque};

use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml;
use roxmltree::{Document, Node, ParsingOptions};

use super::catalogue;

/// The namespace of WSDL 1.1.
pub(crate) const WSDL: &str = "http://schemas.xmlsoap.org/wsdl/";

pub(crate) use crate::xsd::XSD;

/// The most files of one WSDL.
const MAX_FILES: usize = 500;

/// The limits of one of them: what the largest public WSDLs need, several times over.
const LIMITS: BodyLimits = BodyLimits { bytes: 16 << 20, depth: 128, keys: 10_000, nodes: 2_000_000, text: 1 << 20 };

/// Where files are looked for.
pub(crate) type Find<'a> = &'a dyn Fn(&str) -> Option<SourceFile>;

/// The files of a WSDL, each well-formed.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// The WSDL first.
    pub(crate) files: Vec<SourceFile>,
    /// The file that a location in a file means.
    links: HashMap<(usize, String), usize>,
    /// The file of the catalogue for a namespace that some file imports without a location.
    catalogued: HashMap<String, usize>,
}

impl Documents {
    /// Gathers the files that begin at `root`. What is missing or broken is told, every one of it.
    pub(crate) fn gather(root: SourceFile, find: Find<'_>, problems: &mut Problems) -> Self {
        let mut documents = Self { files: vec![root], ..Self::default() };
        let mut queue = VecDeque::from([0]);
        while let Some(index) = queue.pop_front() {
            let file = documents.files[index].clone();
            if let Some(problem) = ill_formed(&file) {
                problems.push(problem);
                continue;
            }
            let Some(document) = parse(&file) else { continue };
            for node in document.root_element().descendants() {
                if let Some(import) = Import::of(node) {
                    documents.follow(index, &import, find, &mut queue, problems);
                }
            }
        }
        documents
    }

    fn follow(
        &mut self,
        from: usize,
        import: &Import<'_>,
        find: Find<'_>,
        queue: &mut VecDeque<usize>,
        problems: &mut Problems,
    ) {
        let Some(location) = import.location else {
            // A schema without a location stands in the same WSDL, or is known to everybody.
            if let Some((name, text)) = catalogue::of(import.namespace)
                && !self.catalogued.contains_key(import.namespace)
            {
                let index = self.add(SourceFile::new(name, text), queue);
                self.catalogued.insert(import.namespace.to_owned(), index);
            }
            return;
        };
        let own = self.files[from].name().to_owned();
        let places = places(&own, location);
        let known = places.iter().find_map(|place| self.files.iter().position(|file| file.name() == place));
        let index = match known {
            Some(index) => index,
            None => {
                let found = places.iter().find_map(|place| find(place)).or_else(|| {
                    let (name, text) = catalogue::of(import.namespace).or_else(|| catalogue::of(location))?;
                    Some(SourceFile::new(name, text))
                });
                match found {
                    Some(file) => match self.files.iter().position(|known| known.name() == file.name()) {
                        Some(index) => index,
                        None if self.files.len() >= MAX_FILES => {
                            let message = format!("the WSDL has more than {MAX_FILES} files");
                            let problem = Problem::error("wsdl-files", &self.files[from], import.span.clone(), message);
                            problems.push(problem);
                            return;
                        }
                        None => self.add(file, queue),
                    },
                    None => {
                        let message =
                            format!("`{location}` is not among the site's files; what it defines is carried as it is");
                        let mut wanted: Vec<_> = places.iter().map(|place| format!("`{place}`")).collect();
                        wanted.dedup();
                        let help = format!("save it as {}", wanted.join(" or "));
                        let problem =
                            Problem::warning("wsdl-import", &self.files[from], import.span.clone(), message).help(help);
                        problems.push(problem);
                        return;
                    }
                }
            }
        };
        self.links.insert((from, location.to_owned()), index);
    }

    fn add(&mut self, file: SourceFile, queue: &mut VecDeque<usize>) -> usize {
        self.files.push(file);
        queue.push_back(self.files.len() - 1);
        self.files.len() - 1
    }

    /// The file that an import means.
    pub(crate) fn target(&self, from: usize, import: &Import<'_>) -> Option<usize> {
        match import.location {
            Some(location) => self.links.get(&(from, location.to_owned())).copied(),
            None => self.catalogued.get(import.namespace).copied(),
        }
    }
}

/// A `wsdl:import`, `xsd:import`, `xsd:include` or `xsd:redefine`.
pub(crate) struct Import<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) location: Option<&'a str>,
    span: std::ops::Range<usize>,
}

impl<'a> Import<'a> {
    pub(crate) fn of(node: Node<'a, 'a>) -> Option<Self> {
        let name = node.tag_name();
        let location = match (name.namespace()?, name.name()) {
            (WSDL, "import") => node.attribute("location").or_else(|| node.attribute("schemaLocation")),
            (XSD, "import" | "include" | "redefine") => node.attribute("schemaLocation"),
            _ => return None,
        };
        let location = location.map(str::trim).filter(|location| !location.is_empty());
        Some(Self { namespace: node.attribute("namespace").unwrap_or_default(), location, span: node.range() })
    }
}

/// The locations that a document imports or includes.
pub(crate) fn locations(file: &SourceFile) -> Vec<String> {
    if ill_formed(file).is_some() {
        return Vec::new();
    }
    let Some(document) = parse(file) else { return Vec::new() };
    let nodes = document.root_element().descendants();
    nodes.filter_map(|node| Import::of(node)?.location.map(str::to_owned)).collect()
}

/// Parses a file that [`ill_formed`] has passed.
pub(crate) fn parse(file: &SourceFile) -> Option<Document<'_>> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: LIMITS.nodes as u32, ..ParsingOptions::default() };
    Document::parse_with_options(file.text(), options).ok()
}

/// What is wrong with a file as XML. A DOCTYPE is refused like in any message.
fn ill_formed(file: &SourceFile) -> Option<Problem> {
    let error = xml::decode(file.text().as_bytes(), Some("utf-8"), &LIMITS).err()?;
    let offset = error.offset;
    Some(Problem::error(
        "wsdl-xml",
        file,
        offset..offset,
        format!("this is no XML that is taken here: {}", error.reason),
    ))
}

/// The names under which the file of a location may stand, best first: beside the file that names it; for a URL the name that
/// [`local_name`] gives it, and its last part.
fn places(from: &str, location: &str) -> Vec<String> {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let beside = |name: &str| normal(&if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") });
    let mut places = Vec::new();
    if !location.contains("://") {
        places.extend(beside(location));
    }
    places.extend(beside(&local_name(location)));
    let bare = location.split(['?', '#']).next().unwrap_or_default();
    places.extend(bare.rsplit('/').next().filter(|last| !last.is_empty()).and_then(beside));
    places
}

/// The file name under which a document that came from a URL is kept: `http://h/sales?xsd=1` is `sales_xsd_1.xsd`.
pub(crate) fn local_name(url: &str) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
    let ending =
        if query.starts_with("wsdl") || (query.is_empty() && last.ends_with(".wsdl")) { "wsdl" } else { "xsd" };
    let stem = last.strip_suffix(".wsdl").or_else(|| last.strip_suffix(".xsd")).unwrap_or(last);
    let mut name: String = format!("{stem}_{query}")
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '-' || c == '.' { c } else { '_' })
        .collect();
    name.truncate(name.trim_end_matches('_').len());
    format!("{name}.{ending}")
}

/// A path without `.` and `..`; `None` where it leaves the site.
fn normal(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_has_places() {
        assert_eq!(places("wsdl/a/b.wsdl", "../c.xsd"), ["wsdl/c.xsd", "wsdl/a/c.xsd", "wsdl/a/c.xsd"]);
        assert_eq!(places("w/b.wsdl", "http://h/x/Sales.svc?xsd=xsd0"), ["w/Sales.svc_xsd_xsd0.xsd", "w/Sales.svc"]);
        assert!(places("b.wsdl", "../../etc/passwd").iter().all(|place| !place.contains("..")));
        assert_eq!(local_name("http://h/ws/sales?wsdl"), "sales_wsdl.wsdl");
        assert_eq!(local_name("http://h/ws/sales.xsd"), "sales.xsd");
    }

    #[test]
    fn imports_are_followed_once_and_what_is_missing_is_told() {
        let wsdl = "<d:definitions xmlns:d='http://schemas.xmlsoap.org/wsdl/' xmlns:x='http://www.w3.org/2001/XMLSchema'>\
            <d:import namespace='a' location='b.wsdl'/><d:types><x:schema>\n<x:import namespace='n' schemaLocation='gone.xsd'/>\
            </x:schema></d:types></d:definitions>";
        let back = wsdl.replace("b.wsdl", "a.wsdl").replace("gone.xsd", "c.xsd");
        let find = |name: &str| match name {
            "w/b.wsdl" => Some(SourceFile::new(name, back.as_str())),
            "w/c.xsd" => {
                Some(SourceFile::new(name, "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>"))
            }
            _ => None,
        };
        let mut problems = Problems::new();
        let documents = Documents::gather(SourceFile::new("w/a.wsdl", wsdl), &find, &mut problems);
        let names: Vec<_> = documents.files.iter().map(SourceFile::name).collect();
        assert_eq!(names, ["w/a.wsdl", "w/b.wsdl", "w/c.xsd"]);
        let told: Vec<String> = problems.iter().map(|problem| problem.render(false)).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("w/a.wsdl:2:1") && told[0].contains("gone.xsd"), "{told:?}");
        assert!(told[1].contains("w/c.xsd:1:1") && told[1].contains("DOCTYPE"), "{told:?}");
    }
}
