//! A name server on a loopback address of its own: every name has one address, or the server ails.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, Result, ensure};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// The name under which providers and receivers are known.
pub const NAME: &str = "far.chaos.test";

const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 53);

/// How the server ails; the codes are DNS's own, but for silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ailing {
    Not = 0,
    /// It says that it failed.
    Fails = 2,
    /// It says that there is no such name.
    Denies = 3,
    Silent = 255,
}

/// The server.
#[derive(Clone)]
pub struct Names(Arc<AtomicU8>);

impl Names {
    /// Starts it on the runtime that it is called on, and makes it the name server of this process and
    /// those that it starts; they have file systems of their own (`unshare --mount`).
    ///
    /// # Errors
    /// Port 53 is taken, or may not be taken; the file cannot be laid over the system's.
    pub async fn start(folder: &Path, tasks: &mut JoinSet<()>) -> Result<Self> {
        let socket = UdpSocket::bind((SERVER, 53))
            .await
            .with_context(|| format!("a name server on {SERVER}:53"))?;
        let file = folder.join("resolv.conf");
        std::fs::write(&file, format!("nameserver {SERVER}\n"))?;
        let laid = Command::new("mount")
            .arg("--bind")
            .arg(&file)
            .arg("/etc/resolv.conf")
            .output()?;
        let why = String::from_utf8_lossy(&laid.stderr);
        ensure!(laid.status.success(), "mount over /etc/resolv.conf: {why}");
        let names = Self(Arc::default());
        let ours = names.clone();
        tasks.spawn(async move { ours.serve(socket).await });
        Ok(names)
    }

    pub fn set(&self, ailing: Ailing) {
        self.0.store(ailing as u8, Ordering::Relaxed);
    }

    async fn serve(self, socket: UdpSocket) {
        let mut query = [0; 1_500];
        loop {
            let Ok((count, from)) = socket.recv_from(&mut query).await else {
                continue;
            };
            let ailing = self.0.load(Ordering::Relaxed);
            if ailing != Ailing::Silent as u8
                && let Some(answer) = answer(&query[..count], ailing)
            {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    }
}

/// An answer in RFC 1035's format: to type A 127.0.0.1, valid for a second.
fn answer(query: &[u8], code: u8) -> Option<Vec<u8>> {
    let mut end = 12;
    while *query.get(end)? != 0 {
        end += usize::from(query[end]) + 1;
    }
    let question = query.get(12..end + 5)?;
    let asks_address = question[question.len() - 4..] == [0, 1, 0, 1];
    let found = code == 0 && asks_address;
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    answer.extend(question);
    if found {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
