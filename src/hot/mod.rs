//! The way of a call that somebody waits for.
//!
//! Promises: no call keeps its caller past its budget; a winner is passed on byte for byte; when
//! the caller leaves, every attempt of its call is cancelled. Takes no lock that another thread
//! can hold, but to queue at a target that is full, and touches no disk; knows one door of the cold
//! path, the hand-off.

mod admission;
mod answer;
mod budget;
mod call;
mod demote;
mod down;
pub(crate) mod earlier;
mod entry;
mod error;
mod explain;
mod gateway;
pub(crate) mod headers;
mod hedge;
mod intake;
pub(crate) mod intent;
mod keepalive;
mod nowhere;
mod pace;
mod pipeline;
mod predict;
mod race;
mod ready;
mod recalled;
mod record;
mod relay;
mod responses;
mod route;
mod routing;
mod run;
mod safe;
pub(crate) mod scope;
mod scopes;
mod share;
mod shed;
mod told;
mod tunnel;
mod twin;

pub use admission::Gate;
pub use call::Worker;
pub use explain::{Plan, Turned, explain};
pub use gateway::{Gateway, State};
pub use hedge::Line;
pub use predict::{Prediction, Predictor};
pub use relay::AnswerBody;
pub use route::{Route, Table};
