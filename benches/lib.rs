//! Empty: the package contains only the benchmarks beside this file.
