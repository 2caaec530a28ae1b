//! Shunt.
