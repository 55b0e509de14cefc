//! What a person is told of a broken site: every problem at once, each with its place; and the demo, whole.
