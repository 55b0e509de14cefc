//! What is written by a schema is judged by another's validator (libxml2's `xmllint --schema`), and read back: values at random,
//! for schemas of our own and for those of the corpus. Skipped, loudly, where `xmllint` is not (`tests/peers/install.sh`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use gatehouse_core::Value;
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml::{self, QName};
use roxmltree::Node;

use super::random::Random;
use super::{Mode, read, write};
use crate::wsdl::Wsdl;
use crate::wsdl::documents::{WSDL, parse};
use crate::wsdl::tests::{corpus, load};
use crate::xsd::{ElementId, XSD};

/// Whether the validator is there.
fn has_oracle() -> bool {
    let there = Command::new("xmllint").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        let required = std::env::var("GATEHOUSE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
        assert!(!required, "there is no `xmllint`, and GATEHOUSE_REQUIRE_SERVERS=1: see tests/peers/install.sh");
        println!("SKIPPED: there is no `xmllint` (Debian's libxml2-utils)");
    }
    there
}

/// What the validator says of documents: the name of each that it does not take, with the reason.
fn judge(schema: &Path, documents: &[PathBuf]) -> Result<BTreeMap<String, String>, String> {
    let mut command = Command::new("xmllint");
    // In the schema's folder: locations in it are relative.
    command.current_dir(schema.parent().unwrap()).args(["--nonet", "--noout", "--schema"]).arg(schema).args(documents);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if told.contains("failed to compile") || told.contains("WXS schema") {
        return Err(told.lines().take(6).collect::<Vec<_>>().join("\n"));
    }
    let mut wrong = BTreeMap::new();
    for line in told.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_suffix(" fails to validate") {
            let reasons = told.lines().filter(|line| line.starts_with(name) && line.contains(": "));
            wrong.insert(name.to_owned(), reasons.take(3).collect::<Vec<_>>().join("\n"));
        }
    }
    let taken = told.lines().filter(|line| line.ends_with(" validates")).count();
    assert_eq!(taken + wrong.len(), documents.len(), "{told}");
    Ok(wrong)
}

/// How it went with one schema.
#[derive(Default)]
struct Tried {
    taken: usize,
    given_up: usize,
    wrong: Vec<String>,
}

/// Makes values of these elements, writes them, lets them be judged, reads them back.
fn try_elements(wsdl: &Wsdl, elements: &[ElementId], schema: &Path, each: u64, seed: u64) -> Result<Tried, String> {
    let folder = schema.parent().unwrap();
    let schemas = &wsdl.schemas;
    let mut tried = Tried::default();
    let mut written = Vec::new();
    for (index, id) in elements.iter().enumerate() {
        for round in 0..each {
            let name = format!("{index}-{round}.xml");
            let Some(value) = Random::new(schemas, seed + round).element(*id, 0).filter(|value| *value != Value::Null)
            else {
                tried.given_up += 1;
                continue;
            };
            let element = match write(schemas, *id, &value, false) {
                Ok(element) => element,
                Err(violations) => {
                    let one = &violations[0];
                    tried.wrong.push(format!("{name}: {value} is not written: {} {}", one.pointer, one.message));
                    continue;
                }
            };
            let path = folder.join(&name);
            std::fs::write(&path, element.encode()).unwrap();
            written.push((*id, value, path));
        }
    }
    let paths: Vec<_> = written.iter().map(|(_, _, path)| path.clone()).collect();
    let mut verdicts = BTreeMap::new();
    for some in paths.chunks(200) {
        verdicts.extend(judge(schema, some)?);
    }
    for (id, value, path) in written {
        let text = std::fs::read(&path).unwrap();
        let shown = String::from_utf8_lossy(&text).into_owned();
        if let Some(reason) = verdicts.get(&*path.to_string_lossy()) {
            tried.wrong.push(format!("{reason}\n{value}\n{shown}"));
            continue;
        }
        let element = xml::decode(&text, None, &BodyLimits::default()).unwrap();
        match read(schemas, id, &element, Mode::Strict) {
            Ok(again) if again == value => tried.taken += 1,
            Ok(again) => tried.wrong.push(format!("wrote {value}\nread  {again}\n{shown}")),
            Err(violations) => tried.wrong.push(format!("wrote {value}\nread  {violations:?}\n{shown}")),
        }
    }
    Ok(tried)
}

/// What a schema can say that a value must bear: each kind of particle, type, form and facet.
const SCHEMA: &str = r###"<x:schema xmlns:x="http://www.w3.org/2001/XMLSchema" xmlns="urn:t" targetNamespace="urn:t" elementFormDefault="qualified">
  <x:element name="Order"><x:complexType><x:sequence>
    <x:element name="No"><x:simpleType><x:restriction base="x:string"><x:minLength value="1"/><x:maxLength value="40"/></x:restriction></x:simpleType></x:element>
    <x:element name="Total" type="Money"/>
    <x:element name="Paid" type="x:boolean" nillable="true"/>
    <x:element name="Free" type="x:string" form="unqualified" minOccurs="0" maxOccurs="3"/>
    <x:element name="Z_X.Dot" type="x:token" minOccurs="0"/>
    <x:choice minOccurs="0">
      <x:element name="card" type="x:positiveInteger"/>
      <x:sequence><x:element name="iban" type="x:NMTOKEN"/><x:element name="bic" type="x:string" minOccurs="0"/></x:sequence>
    </x:choice>
    <x:sequence minOccurs="0" maxOccurs="unbounded"><x:element name="k" type="x:string"/><x:element name="v" type="x:int"/></x:sequence>
    <x:choice minOccurs="0" maxOccurs="unbounded"><x:element name="red" type="x:byte"/><x:element name="blue" type="x:hexBinary"/></x:choice>
    <x:group ref="Times" minOccurs="0"/>
    <x:element ref="pay" minOccurs="0" maxOccurs="2"/>
    <x:element name="Line" type="Line" maxOccurs="unbounded"/>
    <x:element name="Buyer" type="Party"/>
    <x:element name="Any" minOccurs="0"/>
    <x:any minOccurs="0" namespace="##other" processContents="lax"/>
  </x:sequence><x:attribute name="version" type="x:int" use="required"/><x:attribute name="kind" type="Kind"/>
    <x:attribute name="note" type="x:string"/></x:complexType></x:element>
  <x:complexType name="Line"><x:all>
    <x:element name="Sku" type="Code"/><x:element name="Qty" type="x:unsignedShort"/><x:element name="Words" type="Words" minOccurs="0"/>
    <x:element name="Either" minOccurs="0"><x:simpleType><x:union memberTypes="x:int Kind"/></x:simpleType></x:element>
    <x:element name="Weight" minOccurs="0"><x:complexType><x:simpleContent><x:extension base="x:decimal">
      <x:attribute name="unit" type="x:string"/></x:extension></x:simpleContent></x:complexType></x:element>
    <x:element name="Empty" minOccurs="0"><x:complexType><x:attribute name="a" type="x:date"/></x:complexType></x:element>
    <x:element name="Preset" type="x:string" default="yes" minOccurs="0"/><x:element name="Fixed" type="x:int" fixed="5" minOccurs="0"/>
  </x:all></x:complexType>
  <x:complexType name="Party" abstract="true"><x:sequence><x:element name="name" type="x:normalizedString"/></x:sequence></x:complexType>
  <x:complexType name="Firm"><x:complexContent><x:extension base="Party"><x:sequence><x:element name="tax" type="x:long"/>
    <x:element name="owner" type="Party" minOccurs="0"/></x:sequence></x:extension></x:complexContent></x:complexType>
  <x:complexType name="Person"><x:complexContent><x:extension base="Party"><x:sequence><x:element name="born" type="x:date" nillable="true" minOccurs="0"/>
    </x:sequence><x:attribute name="vip" type="x:boolean"/></x:extension></x:complexContent></x:complexType>
  <x:element name="pay" abstract="true" type="x:string"/><x:element name="cash" substitutionGroup="pay" type="x:string"/>
  <x:element name="cheque" substitutionGroup="pay" type="x:string"/>
  <x:group name="Times"><x:sequence><x:element name="at" type="x:dateTime"/><x:element name="for" type="x:duration" minOccurs="0"/>
    <x:element name="month" type="x:gYearMonth" minOccurs="0" maxOccurs="unbounded"/><x:element name="clock" type="x:time" nillable="true" minOccurs="0"/></x:sequence></x:group>
  <x:simpleType name="Money"><x:restriction base="x:decimal"><x:fractionDigits value="2"/><x:totalDigits value="15"/><x:minInclusive value="0"/></x:restriction></x:simpleType>
  <x:simpleType name="Kind"><x:restriction base="x:token"><x:enumeration value="A"/><x:enumeration value="B c"/></x:restriction></x:simpleType>
  <x:simpleType name="Code"><x:restriction base="x:string"><x:pattern value="[A-Z0-9]{1,9}"/></x:restriction></x:simpleType>
  <x:simpleType name="Words"><x:list itemType="x:int"/></x:simpleType>
</x:schema>"###;

#[test]
fn what_is_written_by_a_schema_is_valid_and_comes_back() {
    if !has_oracle() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("t.xsd");
    std::fs::write(&schema, SCHEMA).unwrap();
    let text = format!("<definitions xmlns='{WSDL}'><types>{SCHEMA}</types></definitions>");
    let mut problems = Problems::new();
    let wsdl = crate::wsdl::read(SourceFile::new("t.wsdl", text), &|_| None, &mut problems).unwrap();
    let order = wsdl.schemas.global(&QName::new(Some("urn:t"), "Order")).unwrap();
    let seed = std::env::var("GATEHOUSE_ORACLE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let tried = try_elements(&wsdl, &[order], &schema, 600, seed).unwrap();
    println!("{} valid and read back, {} given up", tried.taken, tried.given_up);
    assert!(tried.wrong.is_empty(), "{} wrong, the first: {}", tried.wrong.len(), tried.wrong[0]);
    assert!(tried.taken > 400, "only {}", tried.taken);
}

#[test]
fn a_contract_made_of_a_type_is_sound_and_what_is_written_by_it_too() {
    if !has_oracle() {
        return;
    }
    let offer = crate::offer::tests::try_make(crate::offer::tests::ORDER, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let schema = schemas_of(&offer.wsdl, folder.path());
    let global = |local: &str| offer.wsdl.schemas.global(&QName::new(Some("urn:shop"), local)).unwrap();
    let fault = offer.wsdl.schemas.global(&QName::new(Some("urn:gatehouse"), "fault")).unwrap();
    let tried =
        try_elements(&offer.wsdl, &[global("Submit"), global("SubmitResponse"), fault], &schema, 80, 3).unwrap();
    println!("{} valid and read back, {} given up", tried.taken, tried.given_up);
    assert!(tried.wrong.is_empty(), "{} wrong, the first: {}", tried.wrong.len(), tried.wrong[0]);
    assert!(tried.taken > 150, "only {}", tried.taken);
}

/// The schemas of a WSDL as files in a folder, and a schema that imports them all.
fn schemas_of(wsdl: &Wsdl, folder: &Path) -> PathBuf {
    let mut by_namespace = BTreeMap::<String, Vec<String>>::new();
    for (index, file) in wsdl.documents.files.iter().enumerate() {
        let Some(document) = parse(file) else { continue };
        let root = document.root_element();
        if root.tag_name().namespace() == Some(XSD) {
            let name = if file.name().starts_with("catalogue:") {
                format!("catalogue-{index}.xsd")
            } else {
                file.name().to_owned()
            };
            let path = folder.join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file.text()).unwrap();
            by_namespace.entry(target(root)).or_default().push(name);
            continue;
        }
        let inner = root.descendants().filter(|node| node.has_tag_name((XSD, "schema")));
        for (number, node) in inner.enumerate() {
            // Beside the document, because its locations are relative to that.
            let beside = file.name().rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            let name = format!("{beside}inner-{index}-{number}.xsd");
            let path = folder.join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, alone(node, file.text())).unwrap();
            by_namespace.entry(target(node)).or_default().push(name);
        }
    }
    for names in by_namespace.values_mut() {
        // What everybody knows may stand in the WSDL as well; that is the one that counts.
        if names.iter().any(|name| !name.starts_with("catalogue-")) {
            names.retain(|name| !name.starts_with("catalogue-"));
        }
    }
    let mut all = format!("<x:schema xmlns:x='{XSD}'>");
    for (index, (namespace, names)) in by_namespace.iter().enumerate() {
        let mut location = names[0].clone();
        if names.len() > 1 {
            location = format!("all-{index}.xsd");
            let includes: String = names.iter().map(|name| format!("<x:include schemaLocation='{name}'/>")).collect();
            let text = format!("<x:schema xmlns:x='{XSD}' targetNamespace='{namespace}'>{includes}</x:schema>");
            std::fs::write(folder.join(&location), text).unwrap();
        }
        match namespace.as_str() {
            "" => all.push_str(&format!("<x:include schemaLocation='{location}'/>")),
            namespace => all.push_str(&format!("<x:import namespace='{namespace}' schemaLocation='{location}'/>")),
        }
    }
    all.push_str("</x:schema>");
    let path = folder.join("driver.xsd");
    std::fs::write(&path, all).unwrap();
    path
}

fn target(node: Node<'_, '_>) -> String {
    node.attribute("targetNamespace").unwrap_or_default().to_owned()
}

/// An element as a document of its own: with the prefixes that are bound around it.
fn alone(node: Node<'_, '_>, text: &str) -> String {
    let own = &text[node.range()];
    let end = own.find(|c: char| c.is_whitespace() || c == '>' || c == '/').unwrap_or(own.len());
    let tag = &own[..own.find('>').unwrap_or(own.len())];
    let mut bound = String::new();
    for namespace in node.namespaces() {
        let name = namespace.name().map_or("xmlns".to_owned(), |prefix| format!("xmlns:{prefix}"));
        if !tag.contains(&format!("{name}=")) && namespace.name() != Some("xml") {
            bound.push_str(&format!(" {name}=\"{}\"", namespace.uri()));
        }
    }
    format!("{}{bound}{}", &own[..end], &own[end..])
}

/// WSDLs whose schemas the validator itself does not take, and why.
const NOT_JUDGED: &[(&str, &str)] = &[];

#[test]
fn what_is_written_by_the_schemas_of_the_corpus_is_valid_and_comes_back() {
    let Some(corpus) = corpus("wsdl").filter(|_| has_oracle()) else { return };
    let oracle = std::fs::read_to_string(corpus.join("ORACLE.tsv")).unwrap();
    let (mut taken, mut given_up, mut wrong, mut not_judged) = (0, 0, Vec::new(), Vec::new());
    for line in oracle.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        if cells[2] != "document" || cells[5] != "loads" {
            continue;
        }
        let wsdl = load(&corpus, cells[0]).unwrap();
        let messages = wsdl.soap_ports().flat_map(|(_, port)| &port.operations);
        let messages = messages.flat_map(|operation| [&operation.input, &operation.output]).flatten();
        let mut elements: Vec<_> = messages.flat_map(|message| message.body.clone()).collect();
        // Only what is declared can be the root of a document.
        elements.retain(|id| wsdl.schemas.global(&wsdl.schemas.element(*id).name) == Some(*id));
        elements.sort_by_key(|id| wsdl.schemas.element(*id).name.to_string());
        elements.dedup();
        elements.truncate(120);
        let folder = tempfile::tempdir().unwrap();
        let schema = schemas_of(&wsdl, folder.path());
        match try_elements(&wsdl, &elements, &schema, 3, 7) {
            Ok(tried) => {
                println!(
                    "{}: {} valid and read back, {} given up, {} wrong",
                    cells[0],
                    tried.taken,
                    tried.given_up,
                    tried.wrong.len()
                );
                (taken, given_up) = (taken + tried.taken, given_up + tried.given_up);
                wrong.extend(tried.wrong.into_iter().map(|text| format!("{}: {text}", cells[0])));
            }
            Err(told) => {
                println!("{}: not judged: {told}", cells[0]);
                not_judged.push(cells[0].to_owned());
            }
        }
    }
    println!("{taken} valid and read back, {given_up} given up");
    assert!(
        wrong.is_empty(),
        "{} wrong, the first of them:\n{}",
        wrong.len(),
        wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n")
    );
    assert_eq!(not_judged, NOT_JUDGED.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    assert!(taken > 500, "only {taken}");
}
