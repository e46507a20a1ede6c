//! The policy host: ext_authz over gRPC, health, metrics, administration.
