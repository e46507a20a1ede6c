//! A policy module: thresholds, deny lists and required fields for manifests and allocations.
