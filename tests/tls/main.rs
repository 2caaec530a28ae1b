//! TLS on real sockets, with certificates of the tests' own authorities.

mod authority;
mod listeners;
mod providers;
