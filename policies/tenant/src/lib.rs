//! A policy module: a tenant sees its own resources and no other.
