//! Benchmarks live in the files beside this one.
