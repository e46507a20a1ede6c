//! A policy module built with spin-sdk: maintenance windows and plans.
