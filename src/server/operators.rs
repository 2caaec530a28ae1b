//! What answers operators, and how much of it there is.
//!
//! Promises: operators are held to the bounds of callers, and to fewer connections; a head that two
//! readers could read differently is refused here too.

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use axum::body::Body;
use axum::response::IntoResponse as _;
use http::header::CONNECTION;
use http::{Request, Response};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::{Server, taken};
use crate::auth::Token;
use crate::cold::runner::Runner;
use crate::config::{Config, Limits};
use crate::hot::Gateway;
use crate::listen::{self, Answers, Listener, Shared};
use crate::meter::Refused;
use crate::observe::live::Hub;
use crate::observe::{self, Admin};
use crate::placed::pinned;
use crate::tasks::Signal;

/// The operators' pages.
struct Operators {
    router: axum::Router,
    /// Whose bounds are in force.
    gateway: Arc<Gateway>,
}

impl Answers for Operators {
    type Body = Body;

    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Pin<Box<impl Future<Output = Response<Body>> + Send + 'static>> {
        pinned(|| async move {
            if let Some((status, why)) = self.gateway.state.load().turns_away(&request) {
                return (status, [(CONNECTION, "close")], format!("{why}\n")).into_response();
            }
            let answer = self.router.clone().oneshot(request.map(Body::new)).await;
            answer.unwrap_or_else(|never| match never {})
        })
    }
}

/// Their bounds. One address takes at most half of the connections: the others can still look.
fn bounds(limits: &Limits) -> Limits {
    let mut bounds = limits.clone();
    bounds.connections = limits.operators;
    bounds.caller.per_address = bounds.caller.per_address.min(limits.operators.div_ceil(2));
    bounds
}

impl Server {
    /// Binds the operators' address.
    pub(super) fn bind_admin(&mut self) -> Result<TcpListener> {
        let socket =
            listen::bind(self.admin, Shared::No).with_context(|| taken("admin", self.admin))?;
        self.admin = socket.local_addr()?;
        Ok(socket)
    }

    /// Serves operators from now on.
    pub(super) fn serve_admin(
        &self,
        config: &Config,
        runner: Arc<Runner>,
        socket: TcpListener,
    ) -> Result<()> {
        let owners = &self.owners;
        let token = config.auth.admin_token.as_ref().map(Token::read);
        let admin = Arc::new(Admin {
            token: token
                .transpose()
                .map_err(|why| anyhow!("auth.admin_token: {why}"))?,
            // Under TLS a foreign name fails at the certificate.
            local: config.auth.admin_token.is_none()
                && config.listen.admin_tls.is_none()
                && self.admin.ip().is_loopback(),
            meter: self.meter.clone(),
            gateway: self.gateway.clone(),
            runner,
            draining: self.draining.clone(),
            tasks: vec![owners.calls.clone(), owners.jobs.clone()],
            live: Hub::new(owners.background.clone()),
        });
        let operators = Listener {
            answers: Arc::new(Operators {
                router: observe::router(admin),
                gateway: self.gateway.clone(),
            }),
            limits: bounds(&config.limits),
            refused: Refused::new(&self.meter),
            tls: self.secured.admin.clone(),
            tasks: owners.background.clone(),
            // They are answered until the end of a drain.
            stop: Signal::default(),
        };
        let _inside = self.control.enter();
        owners.background.spawn(async {
            if let Err(error) = operators.run(socket).await {
                tracing::error!(%error, "operators cannot connect any more");
            }
        });
        Ok(())
    }
}
