//! Every WSDL of the corpus, against what an existing client says of it.

use std::path::{Path, PathBuf};

use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::xml;

use super::*;

/// The folder of real files, or `None`, told loudly.
pub(crate) fn corpus(part: &str) -> Option<PathBuf> {
    let named = std::env::var_os("GATEHOUSE_CORPUS").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let folder = named.unwrap_or_else(beside).join(part);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: the corpus is not at {}", folder.display());
    None
}

/// Reads a WSDL from a folder as the site would.
pub(crate) fn load(folder: &Path, name: &str) -> Result<Wsdl, String> {
    let find = |path: &str| {
        let bytes = std::fs::read(folder.join(path)).ok()?;
        Some(SourceFile::new(path, xml::text_of(&bytes, None).ok()?))
    };
    let mut problems = Problems::new();
    let wsdl = read(find(name).ok_or("not there")?, &find, &mut problems);
    let told = problems.iter().map(|problem| problem.render(false)).collect::<Vec<_>>().join("\n");
    wsdl.ok_or(told)
}

#[test]
fn the_corpus_loads_with_the_same_operations() {
    let Some(folder) = corpus("wsdl") else { return };
    let oracle = std::fs::read_to_string(folder.join("ORACLE.tsv")).unwrap();
    let mut wrong = Vec::new();
    for line in oracle.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        let (file, verdict, counts) = (cells[0], cells[5], cells[6]);
        match (verdict, load(&folder, file)) {
            ("loads", Ok(wsdl)) => {
                let ports: Vec<_> = wsdl.services.iter().flat_map(|service| &service.ports).collect();
                let operations: usize = ports.iter().map(|port| port.operations.len()).sum();
                let ours = format!("{}/{}/{operations}", wsdl.services.len(), ports.len());
                if ours != counts {
                    wrong.push(format!("{file}: {ours} instead of {counts}"));
                }
            }
            ("loads", Err(told)) => wrong.push(format!("{file}: {told}")),
            (_, Ok(_)) => println!("{file}: loads here, and not there"),
            (_, Err(told)) => assert!(told.contains(&format!("{file}:")), "{file}: {told}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the corpus leaves loose itself: all of it names something that is in none of its files.
const LOOSE: [(&str, &str, usize); 1] = [("geotrust.wsdl", "wsdl-reference", 2)];

/// Nothing of the corpus is carried untyped but what it leaves open itself.
#[test]
fn the_corpus_loads_with_its_types() {
    let Some(folder) = corpus("wsdl") else { return };
    let oracle = std::fs::read_to_string(folder.join("ORACLE.tsv")).unwrap();
    let mut found = Vec::new();
    for line in oracle.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        if cells[5] != "loads" {
            continue;
        }
        let find = |path: &str| {
            let bytes = std::fs::read(folder.join(path)).ok()?;
            Some(SourceFile::new(path, xml::text_of(&bytes, None).ok()?))
        };
        let mut problems = Problems::new();
        read(find(cells[0]).unwrap(), &find, &mut problems).unwrap();
        let mut codes = std::collections::BTreeMap::<&str, usize>::new();
        for problem in problems.iter() {
            println!("{}: {} {}", problem.place(), problem.code, problem.message);
            *codes.entry(problem.code).or_default() += 1;
        }
        found.extend(codes.into_iter().map(|(code, count)| (cells[0].to_owned(), code, count)));
    }
    let found: Vec<_> = found.iter().map(|(file, code, count)| (file.as_str(), *code, *count)).collect();
    assert_eq!(found, LOOSE);
}

#[test]
fn a_redefined_type_is_what_it_was_and_more() {
    let x = "xmlns:x='http://www.w3.org/2001/XMLSchema' xmlns='urn:t' targetNamespace='urn:t' elementFormDefault='qualified'";
    let base = format!(
        "<x:schema {x}><x:complexType name='T'><x:sequence><x:element name='a' type='Code'/></x:sequence></x:complexType>\
         <x:simpleType name='Code'><x:restriction base='x:string'><x:maxLength value='9'/></x:restriction></x:simpleType>\
         <x:group name='G'><x:sequence><x:element name='g' type='x:int'/></x:sequence></x:group>\
         <x:attributeGroup name='A'><x:attribute name='p' type='x:int'/></x:attributeGroup>\
         <x:complexType name='Holder'><x:sequence><x:element name='t' type='T'/><x:group ref='G'/></x:sequence><x:attributeGroup ref='A'/>\
         </x:complexType></x:schema>"
    );
    // Redefined twice: here what stands there, which redefines the base.
    let middle = format!(
        "<x:schema {x}><x:redefine schemaLocation='base.xsd'><x:complexType name='T'><x:complexContent><x:extension base='T'>\
         <x:sequence><x:element name='b' type='x:int'/></x:sequence></x:extension></x:complexContent></x:complexType></x:redefine></x:schema>"
    );
    let root = format!(
        "<definitions xmlns='http://schemas.xmlsoap.org/wsdl/'><types><x:schema {x}><x:redefine schemaLocation='middle.xsd'>\
         <x:complexType name='T'><x:complexContent><x:extension base='T'><x:sequence><x:element name='c' type='x:int' minOccurs='0'/></x:sequence>\
         </x:extension></x:complexContent></x:complexType>\
         <x:simpleType name='Code'><x:restriction base='Code'><x:enumeration value='one'/></x:restriction></x:simpleType>\
         <x:group name='G'><x:sequence><x:group ref='G'/><x:element name='h' type='x:int'/></x:sequence></x:group>\
         <x:attributeGroup name='A'><x:attributeGroup ref='A'/><x:attribute name='q' type='x:int'/></x:attributeGroup>\
         </x:redefine><x:element name='E' type='Holder'/></x:schema></types></definitions>"
    );
    let find = |path: &str| match path {
        "base.xsd" => Some(SourceFile::new(path, base.as_str())),
        "middle.xsd" => Some(SourceFile::new(path, middle.as_str())),
        _ => None,
    };
    let mut problems = Problems::new();
    let wsdl = read(SourceFile::new("t.wsdl", root), &find, &mut problems);
    let told: Vec<_> = problems.iter().map(|problem| problem.render(false)).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    let wsdl = wsdl.unwrap();
    let schemas = &wsdl.schemas;
    let holder = schemas.element(schemas.global(&xml::QName::new(Some("urn:t"), "E")).unwrap()).ty;
    let holder = schemas.complex(holder).unwrap();
    let names = |complex: &crate::xsd::Complex| -> Vec<String> {
        let attributes = complex.attributes.iter().map(|one| format!("@{}", one.name.local));
        attributes.chain(complex.fields.keys().map(|name| name.local.to_string())).collect()
    };
    assert_eq!(names(holder), ["@p", "@q", "t", "g", "h"]);
    let inner = holder.fields.values().next().unwrap().element;
    let inner = schemas.complex(schemas.element(inner).ty).unwrap();
    assert_eq!(names(inner), ["a", "b", "c"]);
    let code = schemas.element(inner.fields.values().next().unwrap().element).ty;
    let crate::xsd::Type::Simple(code) = schemas.ty(code) else { panic!("a simple type") };
    assert_eq!((code.facets.max_length, code.facets.enumeration.as_ref().map(|all| all.len())), (Some(9), Some(1)));
}

/// What is told of a WSDL with this schema in it.
fn told(schema: &str) -> String {
    let text = format!(
        "<definitions xmlns='http://schemas.xmlsoap.org/wsdl/'><types><x:schema xmlns:x='http://www.w3.org/2001/XMLSchema' xmlns='urn:t' \
         targetNamespace='urn:t'>{schema}</x:schema></types></definitions>"
    );
    let mut problems = Problems::new();
    read(SourceFile::new("t.wsdl", text), &|_| None, &mut problems);
    problems.iter().map(|problem| problem.render(false)).collect::<Vec<_>>().join("\n")
}

#[test]
fn schemas_that_grow_without_end_are_told_and_end() {
    let began = std::time::Instant::now();
    // Thirty groups, each twice in the one before: a billion.
    let group = |n: usize| {
        format!(
            "<x:group name='g{n}'><x:sequence><x:group ref='g{0}'/><x:group ref='g{0}'/></x:sequence></x:group>",
            n + 1
        )
    };
    let groups: String = (0..30).map(group).collect();
    let bomb =
        format!("{groups}<x:group name='g30'><x:sequence><x:element name='e' type='x:int'/></x:sequence></x:group>");
    let bomb = format!("{bomb}<x:complexType name='T'><x:group ref='g0'/></x:complexType>");
    assert!(told(&bomb).contains("more than 500000 particles"));
    assert!(told("<x:group name='g'><x:sequence><x:group ref='g'/></x:sequence></x:group><x:complexType name='T'><x:group ref='g'/></x:complexType>").contains("without end"));
    let itself = "<x:complexType name='A'><x:complexContent><x:extension base='B'/></x:complexContent></x:complexType>\
        <x:complexType name='B'><x:complexContent><x:extension base='A'/></x:complexContent></x:complexType>";
    assert!(told(itself).contains("derives from itself"));
    let chain: String = (0..5000)
        .map(|n| format!("<x:simpleType name='s{n}'><x:restriction base='s{}'/></x:simpleType>", n + 1))
        .collect();
    assert!(
        told(&format!("{chain}<x:simpleType name='s5000'><x:restriction base='x:string'/></x:simpleType>"))
            .contains("200 bases")
    );
    println!("in {:?}", began.elapsed());
}

#[test]
fn old_drafts_and_the_next_wsdl_are_named() {
    let text = "<definitions xmlns='http://schemas.xmlsoap.org/wsdl/'><types><s:schema xmlns:s='http://www.w3.org/1999/XMLSchema'/></types></definitions>";
    let mut problems = Problems::new();
    assert!(read(SourceFile::new("old.wsdl", text), &|_| None, &mut problems).is_none());
    let told = problems.sorted()[0].render(false);
    assert!(told.contains("draft of XML Schema of 1999") && told.contains("old.wsdl:1:"), "{told}");
    let mut problems = Problems::new();
    let next = SourceFile::new("next.wsdl", "<description xmlns='http://www.w3.org/ns/wsdl'/>");
    assert!(read(next, &|_| None, &mut problems).is_none());
    assert!(problems.sorted()[0].render(false).contains("WSDL 2.0"));
}
