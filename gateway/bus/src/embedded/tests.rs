//! Tests of the embedded bus that need its insides or its file; what every bus must do stands in the conformance suite.
