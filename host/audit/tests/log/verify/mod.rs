//! Any tampering with a log is detected and reported with its code: in SQLite files, in Postgres, and in exports.

mod checkpoints;
mod events;
mod exports;
mod live;
mod manifests;
mod postgres;
mod reader;
mod retirements;
mod support;
