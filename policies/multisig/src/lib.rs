//! A policy module: k of n approvals over the canonical body.
