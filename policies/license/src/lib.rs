//! A policy module: a signed licence with expiry and claims.
