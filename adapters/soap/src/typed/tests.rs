//! Reading and writing by a schema of our own, and by every request and answer of the corpus.

use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml::{self, Element};
use gatehouse_core::{Map, Value, json};

use super::*;
use crate::envelope::Envelope;
use crate::wsdl::tests::{corpus, load};
use crate::wsdl::{Message, Wsdl};

fn decode(text: &str) -> Element {
    xml::decode(text.as_bytes(), None, &BodyLimits::default()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn value(text: &str) -> Value {
    json::decode(text.as_bytes(), &BodyLimits::default()).unwrap()
}

/// A service with one operation whose request is `Order` of these schema contents.
fn service(schema: &str) -> Wsdl {
    let text = format!(
        "<definitions xmlns='http://schemas.xmlsoap.org/wsdl/' xmlns:soap='http://schemas.xmlsoap.org/wsdl/soap/' xmlns:t='urn:t' \
         targetNamespace='urn:t'><types><x:schema xmlns:x='http://www.w3.org/2001/XMLSchema' targetNamespace='urn:t' \
         elementFormDefault='qualified'>{schema}</x:schema></types><message name='In'><part name='p' element='t:Order'/></message>\
         <portType name='P'><operation name='Order'><input message='t:In'/></operation></portType>\
         <binding name='B' type='t:P'><soap:binding transport='http://schemas.xmlsoap.org/soap/http'/>\
         <operation name='Order'><soap:operation soapAction=''/><input><soap:body use='literal'/></input></operation></binding>\
         <service name='S'><port name='A' binding='t:B'><soap:address location='http://h/'/></port></service></definitions>"
    );
    let mut problems = Problems::new();
    let wsdl = crate::wsdl::read(SourceFile::new("t.wsdl", text), &|_| None, &mut problems);
    let told: Vec<_> = problems.iter().map(|problem| problem.render(false)).collect();
    assert!(told.is_empty(), "{told:?}");
    wsdl.unwrap()
}

struct Case {
    wsdl: Wsdl,
}

impl Case {
    fn new(schema: &str) -> Self {
        Self { wsdl: service(schema) }
    }

    fn id(&self) -> crate::xsd::ElementId {
        message(&self.wsdl, "Order", true).unwrap().body[0]
    }

    fn read(&self, inside: &str) -> Result<String, String> {
        let element =
            decode(&format!("<Order xmlns='urn:t' xmlns:t='urn:t' xmlns:xsi='{}'>{inside}</Order>", xml::XSI));
        read(&self.wsdl.schemas, self.id(), &element, Mode::Strict).map(|value| value.to_string()).map_err(|v| told(&v))
    }

    fn write(&self, json: &str) -> Result<String, String> {
        let element = write(&self.wsdl.schemas, self.id(), &value(json), false).map_err(|v| told(&v))?;
        let options = xml::WriteOptions { declaration: false, prefixes: &[("t", "urn:t")], ..Default::default() };
        let text = String::from_utf8(element.encode_with(&options).unwrap()).unwrap();
        let inside = text.strip_prefix("<t:Order xmlns:t=\"urn:t\">").and_then(|text| text.strip_suffix("</t:Order>"));
        Ok(inside.map_or(text.clone(), |inside| inside.replace("t:", "")))
    }

    /// Reads, and writes the same again.
    fn both(&self, inside: &str, json: &str) {
        assert_eq!(self.read(inside).as_deref(), Ok(json), "{inside}");
        // Unqualified elements stand in no namespace under a prefix as well.
        assert_eq!(self.write(json), Ok(inside.replace(" xmlns=\"\"", "")), "{json}");
    }
}

fn told(violations: &[Violation]) -> String {
    violations.iter().map(|one| format!("{} {}", one.pointer, one.message)).collect::<Vec<_>>().join("; ")
}

#[test]
fn an_order_keeps_its_types_and_comes_back_in_the_order_of_the_schema() {
    let case = Case::new(
        "<x:element name='Order'><x:complexType><x:sequence>\
         <x:element name='No' type='x:string'/><x:element name='Total' type='x:decimal'/>\
         <x:element name='Paid' type='x:boolean' minOccurs='0'/><x:element name='Note' type='x:string' nillable='true' minOccurs='0'/>\
         <x:element name='Line' maxOccurs='unbounded' form='unqualified'><x:complexType><x:simpleContent><x:extension base='x:int'>\
         <x:attribute name='sku' type='x:string' use='required'/></x:extension></x:simpleContent></x:complexType></x:element>\
         <x:element name='Kind' minOccurs='0'><x:simpleType><x:restriction base='x:token'><x:enumeration value='A'/><x:enumeration value='B'/>\
         </x:restriction></x:simpleType></x:element></x:sequence><x:attribute name='v' type='x:int'/></x:complexType></x:element>",
    );
    case.both(
        "<No>订单&amp;1</No><Total>12345678901234567.890</Total><Paid>true</Paid><Line xmlns=\"\" sku=\"a\">1</Line>",
        r##"{"No":"订单&1","Total":12345678901234567.890,"Paid":true,"Line":[{"@sku":"a","#text":1}]}"##,
    );
    assert_eq!(
        case.write(r##"{"Line":[{"#text":2,"@sku":"b"},{"#text":"3","@sku":"c"}],"Total":"1.50","No":7,"Note":null,"Paid":null}"##).unwrap(),
        "<No>7</No><Total>1.50</Total><Note xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:nil=\"true\"/>\
         <Line sku=\"b\">2</Line><Line sku=\"c\">3</Line>"
    );
    assert_eq!(
        case.write(r##"{"No":"1","Total":"x","Lines":[1],"Line":[{"#text":1}],"Kind":"C"}"##).unwrap_err(),
        "/Total `x` is not a decimal number; /Line/0/@sku is missing; /Kind `C` is none of A, B; /Lines is not foreseen here; did you mean `Line`?"
    );
    assert_eq!(
        case.read("<No/><Totl>1</Totl><Line xmlns='' sku='a'>1.5</Line><Note xsi:nil='1'/>").unwrap_err(),
        "/Totl is not foreseen here; did you mean `Total`?; /Line/0 `1.5` is not a whole number; /Total is missing"
    );
    // nil is not absent is not empty.
    let line = "<Line xmlns='' sku='a'>1</Line>";
    for (note, json) in [("", ""), ("<Note/>", "\"Note\":\"\","), ("<Note xsi:nil='true'/>", "\"Note\":null,")] {
        let expected = format!("{{\"No\":\"1\",\"Total\":1,{json}\"Line\":[{{\"@sku\":\"a\",\"#text\":1}}]}}");
        assert_eq!(case.read(&format!("<No>1</No><Total>1</Total>{note}{line}")), Ok(expected));
    }
    assert_eq!(case.read("<No>1</No><Total xsi:nil='true'/>").unwrap_err(), "/Total may not be nil; /Line is missing");
}

#[test]
fn choices_and_repeated_groups_are_written_as_they_must_stand() {
    let case = Case::new(
        "<x:element name='Order'><x:complexType><x:sequence><x:sequence maxOccurs='unbounded'><x:element name='k' type='x:string'/>\
         <x:element name='v' type='x:int' minOccurs='0'/></x:sequence><x:choice><x:element name='card' type='x:string'/>\
         <x:sequence><x:element name='iban' type='x:string'/><x:element name='bic' type='x:string'/></x:sequence></x:choice>\
         <x:any minOccurs='0' maxOccurs='unbounded' processContents='lax'/></x:sequence></x:complexType></x:element>\
         <x:element name='Extra' type='x:int'/>",
    );
    assert_eq!(
        case.write(r#"{"bic":"B","v":[1,2],"iban":"I","k":["a","b"],"Extra":5}"#).unwrap(),
        "<k>a</k><v>1</v><k>b</k><v>2</v><iban>I</iban><bic>B</bic><Extra>5</Extra>"
    );
    assert_eq!(case.read("<k>a</k><card>1</card><Extra>5</Extra>").unwrap(), r#"{"k":["a"],"card":"1","Extra":5}"#);
    assert_eq!(case.write(r#"{"k":"a"}"#).unwrap_err(), " needs one of `card`, `iban`");
    assert_eq!(case.write(r#"{"k":"a","iban":"I"}"#).unwrap_err(), "/bic is missing");
    assert!(case.write(r#"{"k":"a","card":"1","iban":"I","bic":"B"}"#).unwrap_err().contains("choice"));
}

#[test]
fn nil_is_no_way_around_an_attribute() {
    let case = Case::new(
        "<x:element name='Order'><x:complexType><x:sequence><x:element name='a' nillable='true'><x:complexType><x:attribute name='k' \
         type='x:int' use='required'/></x:complexType></x:element></x:sequence></x:complexType></x:element>",
    );
    assert_eq!(case.write(r#"{"a":null}"#).unwrap_err(), "/a is null, and the schema demands its attribute `k`");
    assert!(case.write(r#"{"a":{"@k":1}}"#).is_ok());
}

#[test]
fn a_list_of_words_is_one_element() {
    let case = Case::new(
        "<x:element name='Order'><x:complexType><x:sequence><x:element name='tags'><x:simpleType><x:list itemType='x:int'/></x:simpleType>\
         </x:element></x:sequence></x:complexType></x:element>",
    );
    case.both("<tags>1 2 3</tags>", r#"{"tags":[1,2,3]}"#);
    assert_eq!(case.write(r#"{"tags":[1,"x"]}"#).unwrap_err(), "/tags `x` is not a whole number");
}

#[test]
fn derived_types_and_substitutes_are_told_and_chosen() {
    let case = Case::new(
        "<x:complexType name='Party' abstract='true'><x:sequence><x:element name='name' type='x:string'/></x:sequence></x:complexType>\
         <x:complexType name='Firm'><x:complexContent><x:extension base='t:Party' xmlns:t='urn:t'><x:sequence><x:element name='tax' type='x:long'/>\
         </x:sequence></x:extension></x:complexContent></x:complexType>\
         <x:element name='pay' abstract='true' type='x:string' xmlns:t='urn:t'/><x:element name='cash' substitutionGroup='t:pay' type='x:string'/>\
         <x:element name='Order'><x:complexType><x:all><x:element name='buyer' type='t:Party'/><x:element ref='t:pay' minOccurs='0'/></x:all></x:complexType></x:element>",
    );
    let json = r#"{"buyer":{"@xsi:type":"Firm","name":"甲","tax":913101010000000000},"cash":"1"}"#;
    assert_eq!(
        case.read("<cash>1</cash><buyer xsi:type='t:Firm'><name>甲</name><tax>913101010000000000</tax></buyer>")
            .unwrap(),
        r#"{"cash":"1","buyer":{"@xsi:type":"Firm","name":"甲","tax":913101010000000000}}"#
    );
    let written = case.write(json).unwrap();
    assert!(written.contains("xsi:type=\"Firm\"") && written.ends_with("<cash>1</cash>"), "{written}");
    assert!(case.write(r#"{"buyer":{"name":"x"}}"#).unwrap_err().contains("abstract"));
    assert!(case.write(r#"{"buyer":{"@xsi:type":"Frm","name":"x"}}"#).unwrap_err().contains("no type `Frm`"));
}

#[test]
fn references_unfold_and_never_without_end() {
    let body = |text: &str| {
        let root = decode(&format!("<b xmlns:e='{}' xmlns:xsi='{}'>{text}</b>", xml::SOAP_ENC, xml::XSI));
        inline(root.elements().cloned().collect(), &[])
    };
    // Axis: at the end of the body. PHP: at the first use.
    let axis = body(
        "<r><a href='#1'/><b href='#1'/></r><multiRef id='1'><n href='#2'/></multiRef><multiRef id='2'>7</multiRef>",
    );
    assert_eq!(axis.unwrap()[0].to_value().to_string(), r#"{"a":{"n":"7"},"b":{"n":"7"}}"#);
    let php = body("<r><a id='ref1'><n>7</n></a><b href='#ref1'/></r>").unwrap();
    assert_eq!(php[0].to_value().to_string(), r#"{"a":{"n":"7"},"b":{"n":"7"}}"#);
    assert!(body("<r><a href='#9'/></r>").unwrap_err().contains("not there"));
    assert!(body("<r><a href='#1'/></r><m id='1'><x href='#1'/></m>").unwrap_err().contains("itself"));
    let bomb: String = (0..20).map(|n| format!("<m id='{n}'><x href='#{0}'/><x href='#{0}'/></m>", n + 1)).collect();
    assert!(body(&format!("<r href='#0'/>{bomb}<m id='20'>x</m>")).unwrap_err().contains("unfold"));
}

#[test]
fn arrays_of_the_encoding_are_lists() {
    let wsdl = service(
        "<x:element name='Order'><x:complexType><x:sequence><x:element name='a'/></x:sequence></x:complexType></x:element>",
    );
    let id = message(&wsdl, "Order", true).unwrap().body[0];
    let list = |attributes: &str, items: &str| {
        let text = format!(
            "<Order xmlns='urn:t' xmlns:e='{}' xmlns:d='http://www.w3.org/2001/XMLSchema' xmlns:xsi='{}'>\
             <a xsi:type='e:Array' {attributes}>{items}</a></Order>",
            xml::SOAP_ENC,
            xml::XSI
        );
        read(&wsdl.schemas, id, &decode(&text), Mode::Strict).unwrap().field("a").unwrap().to_string()
    };
    assert_eq!(list("e:arrayType='d:int[2]'", "<i>1</i><i>2</i>"), "[1,2]");
    assert_eq!(list("e:arrayType='d:int[2,2]'", "<i>1</i><i>2</i><i>3</i><i>4</i>"), "[[1,2],[3,4]]");
    assert_eq!(
        list("e:arrayType='d:string[4]'", "<i e:position='[1]'>b</i><i e:position='[3]'>d</i>"),
        r#"[null,"b",null,"d"]"#
    );
    assert_eq!(list("e:arrayType='d:int[5]' e:offset='[2]'", "<i>3</i>"), "[null,null,3]");
    assert_eq!(
        list(
            "e:arrayType='d:int[][2]'",
            "<i e:arrayType='d:int[1]'><i>1</i></i><i e:arrayType='d:int[2]'><i>2</i><i>3</i></i>"
        ),
        "[[1],[2,3]]"
    );
    assert_eq!(list("e:arrayType='d:int[0]'", ""), "[]");
    assert_eq!(list("e:arrayType='d:int[99999999999,9]'", "<i>1</i>"), "[[1]]");
    let huge = format!(
        "<Order xmlns='urn:t' xmlns:e='{}'><a e:arrayType='x[9]'><i e:position='[999999999]'>1</i></a></Order>",
        xml::SOAP_ENC
    );
    assert!(read(&wsdl.schemas, id, &decode(&huge), Mode::Strict).is_err());
}

/// What node-soap's JSON and ours have in common: attributes without a prefix under `@`, texts trimmed, one item for a list of
/// one, nothing for null, text for every scalar.
fn common(value: &Value) -> Value {
    match value {
        Value::Map(map) => {
            let mut out = Map::new();
            for (key, item) in map {
                if key == "attributes" || key == "$attributes" {
                    for (name, item) in item.as_map().into_iter().flatten() {
                        if !name.contains(':') && name != "xsi_type" && name != "xmlns" {
                            out.insert(format!("@{name}"), common(item));
                        }
                    }
                    continue;
                }
                if key == TYPE_KEY {
                    continue;
                }
                let key = match key.as_str() {
                    "$value" => "#text",
                    key => key.rsplit(':').next().unwrap_or(key),
                };
                let item = common(item);
                if !matches!(&item, Value::Null) {
                    out.insert(key.to_owned(), item);
                }
            }
            match (out.len(), out.shift_remove("#text")) {
                (1, Some(text)) => text,
                (_, Some(text)) => {
                    out.insert("#text".to_owned(), text);
                    Value::Map(out)
                }
                (0, None) => Value::Null,
                _ => {
                    let mut pairs: Vec<_> = out.into_iter().collect();
                    pairs.sort_by(|one, other| one.0.cmp(&other.0));
                    Value::Map(pairs.into_iter().collect())
                }
            }
        }
        Value::List(items) => match items.as_slice() {
            [] => Value::Null,
            [one] => common(one),
            items => Value::List(items.iter().map(common).collect()),
        },
        Value::Text(text) if text.trim().is_empty() => Value::Null,
        Value::Null => Value::Null,
        scalar => Value::from(scalar.to_plain_text().unwrap_or_default().trim()),
    }
}

/// The message of an operation by its name.
fn message<'a>(wsdl: &'a Wsdl, operation: &str, request: bool) -> Option<&'a Message> {
    let mut operations = wsdl.soap_ports().flat_map(|(_, port)| &port.operations);
    let found = operations.find(|found| found.name == operation)?;
    if request { found.input.as_ref() } else { found.output.as_ref() }
}

/// What is in the body of an envelope.
fn body(folder: &std::path::Path, name: &str) -> Option<Element> {
    let bytes = std::fs::read(folder.join(name)).ok()?;
    let root = xml::decode(&bytes, None, &BodyLimits::default()).ok()?;
    inline(Envelope::take(root).ok()?.body, &[]).ok()?.into_iter().next()
}

/// Where node-soap and this reader differ, and why. Each entry must still differ.
const DIFFERENT: &[(&str, &str)] = &[
    ("Dummy__should_handle_datetime_transformation response", "dates stay the text they came as"),
    ("Dummy__should_handle_inline_types response", "dates and times stay the text they came as"),
    ("Dummy__should_ignore_defined_namespaces response", "there an option renames the text's key"),
    ("OneWay__should_handle_one_way_operation response", "a one-way operation has no answer"),
    (
        "SendCDATA__cdata_preserves_leading_and_trailing_whitespace_when_preserveWhitespace_option_is_true request",
        "CDATA is text",
    ),
    ("multiCall__rpc_stype_request_xsi_attributes request", "arrays are lists, and Apache's maps are maps"),
    ("multiCall__rpc_stype_request_xsi_attributes response", "arrays are lists"),
    ("attachments__should_send_binary_data", "the WSDL uses the prefix `xmime` and does not bind it"),
    (
        "Dummy__should_use_defined_xml_key_in_first_level_for_rpc",
        "the WSDL uses the prefix `soap12` and does not bind it",
    ),
    (
        "login__complex_schema_xmlns_with_array_and_any_type_and_other_types",
        "the WSDL uses the prefix `xs` and does not bind it",
    ),
];

/// What is not written, because the sample breaks its own schema.
const INVALID: &[(&str, &str)] = &[
    ("Dummy__ref_element_should_have_correct_namespace_with_overrideElementKey request", "/Order"),
    ("Dummy__should_handle_nil response", "/DummyResult/DummyList/DummyElement/0"),
    ("Dummy__should_ignore_defined_namespaces request", "/DummyAccount"),
    ("Dummy__should_use_defined_value_key request", "/DummyAccount"),
    ("GetItemInformation__should_ignore_default_namespace_from_schema request", "/Items/Item/0/SupplierId"),
    ("GetItemInformation__should_ignore_default_namespace_from_schema response", "/Items"),
    ("GetSubscription__should_handle_ref_minOccurs_and_maxOccurs response", "/Status"),
    ("Message__Messages_suffixed_with_Input_Output request", "/bstrResourceId"),
    ("Message__overriding_namespace_prefix request", "/bstrResourceId"),
    (
        "RetrieveFareQuoteDateRange__should_handle_child_namespaces request",
        "/RetrieveFareQuoteDateRangeRequest/FareQuoteDetails/FareQuoteDetailDateRange/0/DateOfDepartureStart",
    ),
    ("UpdateProfile__correct_namespaces_other_prefixes request", "/Profile/Phones/NamePhone/0/PhoneData"),
    ("addPrefix__should_add_namespace_on_output_message response", "/ResponseCode"),
    (
        "execFile__valid_xml_generated_on_request_with_complex_type_element_form_default_qualified response",
        "/base64EncodedStdOut",
    ),
    ("fooOp__should_return_back_good_response_object request", "/requestHeader/requestId"),
    ("getAvailability__should_not_fail_without_children request", "/getAvailabilityRequest/destination"),
    ("getMessage__force_use_schema_xmlns request", "/sessionId"),
    ("addList__complex_extension_namespace_for_arrays response", "/writeResponseList/writeResponse/0/baseRef/@type"),
    ("get__complex_extension_without_explicit_namespace request", "/baseRef/@type"),
    ("update__complex_extension_with_array_attributes request", "/record/subscriptionsList/replaceAll"),
    ("update__complex_extension_with_array_attributes response", "/writeResponse/baseRef/@type"),
];

#[test]
fn the_samples_of_node_soap_are_read_and_written() {
    let Some(folder) = corpus("soap-samples/node-soap") else { return };
    let (mut read_as_expected, mut written) = (0, 0);
    let (mut told, mut different, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for sample in names {
        let name = sample.file_name().unwrap().to_string_lossy().into_owned();
        let operation = name.split("__").next().unwrap();
        let wsdl = match load(&sample, "soap.wsdl") {
            Ok(wsdl) => wsdl,
            Err(error) => {
                assert!(error.contains("bound to no namespace"), "{name}: {error}");
                different.push(name);
                continue;
            }
        };
        for request in [true, false] {
            let part = if request { "request" } else { "response" };
            let Some(message) = message(&wsdl, operation, request) else {
                different.push(format!("{name} {part}"));
                continue;
            };
            let (Some(element), Ok(expected)) =
                (body(&sample, &format!("{part}.xml")), std::fs::read(sample.join(format!("{part}.json"))))
            else {
                continue;
            };
            let Some(declared) = message.body.first() else { continue };
            let expected = json::decode(&expected, &BodyLimits::default()).unwrap();
            let value = read(&wsdl.schemas, *declared, &element, Mode::Lenient).unwrap();
            if common(&value) == common(&expected) {
                read_as_expected += 1;
            } else {
                println!("{name} {part}: read {} instead of {}", common(&value), common(&expected));
                different.push(format!("{name} {part}"));
            }
            match write(&wsdl.schemas, *declared, &value, message.encoded) {
                Ok(element) => {
                    let again = read(
                        &wsdl.schemas,
                        *declared,
                        &decode(&String::from_utf8(element.encode()).unwrap()),
                        Mode::Strict,
                    );
                    match again {
                        Ok(again) if common(&again) == common(&value) => written += 1,
                        other => told.push(format!(
                            "{name} {part}: wrote {} read again as {other:?}",
                            String::from_utf8(element.encode()).unwrap()
                        )),
                    }
                }
                Err(errors) => {
                    println!("{name} {part}: {errors:?}");
                    invalid.push((format!("{name} {part}"), errors[0].pointer.clone()));
                }
            }
        }
    }
    println!("{read_as_expected} read as expected, {written} written and read again");
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert_eq!(
        different.iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
        DIFFERENT.iter().map(|(name, _)| *name).collect()
    );
    let pairs: std::collections::BTreeSet<_> =
        invalid.iter().map(|(name, pointer)| (name.as_str(), pointer.as_str())).collect();
    assert_eq!(pairs, INVALID.iter().copied().collect());
}

#[test]
fn bytes_are_found_wherever_a_schema_has_them() {
    let case = Case::new(
        "<x:simpleType name='Scan'><x:restriction base='x:base64Binary'><x:maxLength value='9'/></x:restriction></x:simpleType>\
         <x:complexType name='Base'><x:sequence><x:element name='n' type='x:string'/></x:sequence></x:complexType>\
         <x:complexType name='Doc'><x:complexContent><x:extension base='t:Base'><x:sequence><x:element name='scan' type='t:Scan' maxOccurs='9'/>\
         </x:sequence></x:extension></x:complexContent></x:complexType>\
         <x:element name='Order'><x:complexType><x:sequence><x:element name='note' type='x:string'/><x:element name='raw' type='x:base64Binary'/>\
         <x:element name='doc' type='t:Base' maxOccurs='9'/><x:element name='hex' type='x:hexBinary'/><x:element name='any' type='x:anyType'/>\
         <x:element name='marked'><x:complexType><x:simpleContent><x:extension base='x:base64Binary'><x:attribute name='kind'/></x:extension>\
         </x:simpleContent></x:complexType></x:element></x:sequence></x:complexType></x:element>",
    );
    let mut element = decode(&format!(
        "<Order xmlns='urn:t' xmlns:t='urn:t' xmlns:xsi='{}' xmlns:x='http://www.w3.org/2001/XMLSchema'><note>AQ==</note><raw>AQI=</raw>\
         <doc xsi:type='t:Doc'><n>AQ==</n><scan>AQ==</scan><scan>Ag==</scan></doc><doc><n>x</n></doc><hex>00</hex>\
         <any xsi:type='x:base64Binary'>Aw==</any><marked kind='a'>BA==</marked></Order>",
        xml::XSI
    ));
    let mut found = Vec::new();
    each_binary(&case.wsdl.schemas, case.id(), &mut element, &mut |element| {
        found.push(format!("{}={}", element.name.local, element.text()));
    });
    assert_eq!(found, ["raw=AQI=", "scan=AQ==", "scan=Ag==", "any=Aw==", "marked=BA=="]);
}

/// SOAP::Lite: `<submit xmlns="urn:old"><token>…`, where the schema has `token` in no namespace.
#[test]
fn an_accessor_of_an_encoded_call_is_known_by_its_local_name() {
    let case = Case::new(
        "<x:element name='Order'><x:complexType><x:sequence><x:element name='a' type='x:int' form='unqualified'/></x:sequence></x:complexType></x:element>",
    );
    let read = |inside: &str, mode| {
        let element = decode(&format!("<Order xmlns='urn:t'>{inside}</Order>"));
        read(&case.wsdl.schemas, case.id(), &element, mode).map(|value| value.to_string()).map_err(|found| told(&found))
    };
    assert_eq!(read("<a>1</a>", Mode::Encoded).as_deref(), Ok(r#"{"a":1}"#));
    assert!(read("<a>1</a>", Mode::Strict).unwrap_err().contains("its namespace is wrong"));
    assert!(read("<a>x</a>", Mode::Encoded).is_err() && read("<b>1</b>", Mode::Encoded).is_err(), "all else is told");
}
