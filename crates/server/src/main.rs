//! The binary `odradek`: composition root and command line.

fn main() {}
