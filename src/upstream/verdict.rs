//! How an attempt ended, as far as its caller has not seen it yet.

use std::time::Duration;

use super::connect::ConnectError;
use super::incoming::Cut;
use super::inflow::Fault;
use super::refusal::is_away;

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// No connection.
    #[error("no connection: {0}")]
    Connect(#[from] ConnectError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Transport(#[from] Cut),
    /// The caller's body failed, which is no fault of the provider.
    #[error("{0}")]
    Caller(Fault),
    /// It switched to another protocol, which nobody asked of it: what follows is no answer.
    #[error("it switched to another protocol, unasked")]
    Switched,
    /// The request cannot be put into this provider's form.
    #[error("the request has no valid address: {0}")]
    Request(#[from] http::Error),
}

impl Broken {
    /// A word for metrics: `connect`, `connect_timeout`, `refused`, `reset` or `request`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect(ConnectError::TimedOut(_)) => "connect_timeout",
            Self::Connect(_) => "connect",
            Self::Transport(cut) if cut.is_refusal() => "refused",
            Self::Transport(_) | Self::Switched => "reset",
            Self::Request(_) | Self::Caller(_) => "request",
        }
    }
}

impl Broken {
    /// Whether the provider said that it saw nothing of the call.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Transport(cut) if cut.is_refusal())
    }
}

/// What is known of an attempt once it can be judged.
#[derive(Debug)]
pub enum Verdict {
    /// An answer to pass on.
    Answer,
    /// An answer with a status that another attempt may improve on, and when it may come.
    Refused(u16, Option<Duration>),
    /// A stream whose first word is an error.
    Told,
    /// No answer.
    Broken(Broken),
}

impl Verdict {
    /// Whether the provider was there for nobody, or has no room: it did nothing for the call.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Answer | Self::Told => false,
            Self::Refused(status, _) => *status == 429 || is_away(*status),
            Self::Broken(why) => matches!(why, Broken::Connect(_)) || why.is_refusal(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_fits_no_provider_says_nothing_of_whether_one_is_there() {
        let error = http::Uri::builder().path_and_query("\0").build();
        let broken = Broken::Request(error.expect_err("no address holds that"));
        assert!(!Verdict::Broken(broken).is_away());
    }
}
