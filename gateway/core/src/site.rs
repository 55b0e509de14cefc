//! A site: the folder of files that says what is connected to what.
