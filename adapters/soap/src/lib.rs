//! The SOAP adapter: document/literal calls out, acknowledged operations in.
