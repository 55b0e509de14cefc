//! Schemas that WSDLs import without saying where they are, because everybody has them: written here from their
//! specifications, as far as a document's shape needs. Types of the SOAP encodings are built in ([`crate::xsd`]).

/// The catalogue's file for a namespace or a well-known address: its name and text.
pub(super) fn of(namespace: &str) -> Option<(&'static str, &'static str)> {
    Some(match namespace.trim_end_matches('/') {
        "http://www.w3.org/XML/1998/namespace"
        | "http://www.w3.org/2001/xml.xsd"
        | "https://www.w3.org/2001/xml.xsd"
        | "http://www.w3.org/2005/08/xml.xsd"
        | "http://www.w3.org/2009/01/xml.xsd" => ("catalogue:xml.xsd", include_str!("catalogue/xml.xsd")),
        "http://www.w3.org/2005/05/xmlmime" | "http://www.w3.org/2004/11/xmlmime" => {
            ("catalogue:xmlmime.xsd", include_str!("catalogue/xmlmime.xsd"))
        }
        "http://www.w3.org/2000/09/xmldsig#"
        | "http://www.w3.org/TR/2002/REC-xmldsig-core-20020212/xmldsig-core-schema.xsd"
        | "http://www.w3.org/TR/xmldsig-core/xmldsig-core-schema.xsd" => {
            ("catalogue:xmldsig.xsd", include_str!("catalogue/xmldsig.xsd"))
        }
        "http://www.w3.org/2005/08/addressing" | "http://www.w3.org/2006/03/addressing/ws-addr.xsd" => {
            ("catalogue:addressing.xsd", include_str!("catalogue/addressing.xsd"))
        }
        "http://schemas.xmlsoap.org/soap/encoding" => {
            ("catalogue:soap-encoding.xsd", include_str!("catalogue/soap-encoding.xsd"))
        }
        "http://www.w3.org/2003/05/soap-encoding" => {
            ("catalogue:soap12-encoding.xsd", include_str!("catalogue/soap12-encoding.xsd"))
        }
        "http://schemas.xmlsoap.org/soap/envelope" => {
            ("catalogue:soap-envelope.xsd", include_str!("catalogue/soap-envelope.xsd"))
        }
        "http://www.w3.org/2003/05/soap-envelope" => {
            ("catalogue:soap12-envelope.xsd", include_str!("catalogue/soap12-envelope.xsd"))
        }
        "http://schemas.microsoft.com/2003/10/Serialization" => {
            ("catalogue:serialization.xsd", include_str!("catalogue/serialization.xsd"))
        }
        "http://ws-i.org/profiles/basic/1.1/xsd" | "http://ws-i.org/profiles/basic/1.1/swaref.xsd" => {
            ("catalogue:swaref.xsd", include_str!("catalogue/swaref.xsd"))
        }
        // WSDLs import the namespace of WSDL itself, for `wsdl:arrayType`.
        "http://schemas.xmlsoap.org/wsdl" => ("catalogue:wsdl.xsd", include_str!("catalogue/wsdl.xsd")),
        "http://www.w3.org/2001/XMLSchema" => ("catalogue:xmlschema.xsd", include_str!("catalogue/xmlschema.xsd")),
        _ => return None,
    })
}
