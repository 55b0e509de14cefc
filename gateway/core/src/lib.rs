//! The pure heart of Gatehouse: values, messages, codecs, mappings, expressions, the site and its check.
