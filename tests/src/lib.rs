//! End-to-end tests, chaos and benchmarks over the real binaries.
