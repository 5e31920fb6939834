//! The library that applications use. So far one connection in the text protocol, for tools and tests.

pub mod text;
