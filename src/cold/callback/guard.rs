//! Which addresses a callback may reach.
//!
//! Promises: public https addresses only, and what `callbacks.allow` names; whatever two parsers
//! could read differently is refused. Never resolves a name itself: what it resolves to is judged
//! where the connection is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use super::public::is_public;

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no address.
    #[error("`{0}` is not a URL; send an https URL with a host")]
    NotAUrl(String),
    /// It is longer than any server takes.
    #[error("a URL of more than {LONGEST} bytes is not taken")]
    TooLong,
    /// It holds what could end a header line, or what parsers read differently.
    #[error(
        "a URL with blanks, backslashes, control characters (percent-encoded ones too) or \
         characters other than ASCII is not taken"
    )]
    Characters,
    /// It is for another protocol.
    #[error("`{0}` is not taken as a scheme; send an https URL")]
    Scheme(String),
    /// It has a part that no receiver ever gets.
    #[error("a URL with a fragment is not taken; leave out `#` and what follows")]
    Fragment,
    /// It carries credentials.
    #[error("a URL with a user name or password is not taken; let the signature prove the sender")]
    UserInfo,
    /// Its host is neither a name nor an address.
    #[error(
        "`{0}` is not a host; send a DNS name, or an address as four decimal numbers or in brackets"
    )]
    Host(String),
    /// Its port is none.
    #[error("`{0}` is not a port; send a number from 1 to 65535, or none")]
    Port(String),
    /// Its path leads elsewhere.
    #[error("a path with `.` or `..` as a part is not taken; send the path that is meant")]
    Path,
    /// It is not https.
    #[error("only https is taken; name the address in callbacks.allow to use http")]
    NotSecure,
    /// It reaches inside.
    #[error(
        "{0} is not a public address; name the address in callbacks.allow if it is meant to be reached"
    )]
    Inside(String),
}

/// A callback's address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The whole URL.
    pub uri: Uri,
    /// Host name in lower case or literal, without brackets and without a last dot.
    pub host: String,
    /// The port.
    pub port: u16,
    /// https.
    pub secure: bool,
    /// `callbacks.allow` names it: inside addresses are fine.
    pub allowed: bool,
}

impl Address {
    /// Whom a connection is made to: scheme, host and port. The receiver, whatever its path.
    pub fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        if self.host.contains(':') {
            return format!("{scheme}://[{}]:{}", self.host, self.port);
        }
        format!("{scheme}://{}:{}", self.host, self.port)
    }
}

struct Allowed {
    address: Address,
    prefix: bool,
}

/// Judges callback addresses.
pub struct AddressGuard {
    allow: Vec<Allowed>,
}

/// Longest URL.
const LONGEST: usize = 2_048;

/// Names that only mean something inside (RFC 6761, RFC 6762, RFC 8375, ICANN's `internal`).
const INSIDE: [&str; 4] = [".localhost", ".local", ".internal", ".home.arpa"];

impl AddressGuard {
    /// A guard with the entries of `callbacks.allow`: URLs, exact or with a trailing `*` in the
    /// path.
    ///
    /// # Errors
    /// A sentence naming the entry that is no URL.
    pub fn new(allow: &[String]) -> Result<Self, String> {
        let entry = |text: &String| {
            let told = |why: &str| {
                format!("callbacks.allow: `{text}` {why}; write https://hooks.example.com/*")
            };
            let bare = text.strip_suffix('*');
            // `https://host*` would also stand for another host.
            if bare.is_some_and(|bare| bare.matches('/').count() < 3) {
                return Err(told("is not a URL"));
            }
            let address = take_apart(bare.unwrap_or(text));
            Ok(Allowed {
                address: address.map_err(|why| told(&format!("is not taken: {why}")))?,
                prefix: bare.is_some(),
            })
        };
        Ok(Self {
            allow: allow.iter().map(entry).collect::<Result<_, _>>()?,
        })
    }

    /// Judges an address as far as it can be before its name is resolved.
    ///
    /// # Errors
    /// A sentence for whoever sent it.
    pub fn check_url(&self, url: &str) -> Result<Address, Refused> {
        let mut address = take_apart(url)?;
        address.allowed = self.allows(&address);
        if address.allowed {
            return Ok(address);
        }
        if !address.secure {
            return Err(Refused::NotSecure);
        }
        let public = match address.host.parse() {
            Ok(ip) => is_public(ip),
            Err(_) => is_public_name(&address.host),
        };
        if public {
            Ok(address)
        } else {
            Err(Refused::Inside(address.host))
        }
    }

    /// Whether a connection to this address of the receiver's name may be made.
    pub fn judge(&self, address: &Address, ip: IpAddr) -> bool {
        address.allowed || is_public(ip)
    }

    fn allows(&self, address: &Address) -> bool {
        let path = address.uri.path();
        self.allow.iter().any(|entry| {
            let named = entry.address.uri.path();
            let fits = if entry.prefix {
                path.starts_with(named)
            } else {
                path == named
            };
            fits && entry.address.origin() == address.origin()
        })
    }
}

/// Takes a URL apart, or says why not. Judges its form only.
fn take_apart(url: &str) -> Result<Address, Refused> {
    if url.len() > LONGEST {
        return Err(Refused::TooLong);
    }
    if !is_plain(url) {
        return Err(Refused::Characters);
    }
    if url.contains('#') {
        return Err(Refused::Fragment);
    }
    let wrong = || Refused::NotAUrl(url.chars().take(200).collect());
    if let Some((scheme, _)) = url.split_once("://")
        && !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str())
    {
        return Err(Refused::Scheme(scheme.chars().take(40).collect()));
    }
    // Before the parser, whose words for it are less clear.
    let authority = url.split("://").nth(1).unwrap_or_default();
    if authority
        .split(['/', '?'])
        .next()
        .unwrap_or_default()
        .contains('@')
    {
        return Err(Refused::UserInfo);
    }
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong());
    };
    let secure = scheme == "https";
    let (host, port) = host_and_port(authority.as_str())?;
    if climbs(uri.path()) {
        return Err(Refused::Path);
    }
    Ok(Address {
        host,
        port: port.unwrap_or(if secure { 443 } else { 80 }),
        secure,
        allowed: false,
        uri,
    })
}

/// Whether a URL holds visible ASCII only, and nothing encoded that ends a line for whoever
/// decodes it.
fn is_plain(url: &str) -> bool {
    let encoded = url.split('%').skip(1).filter_map(|rest| rest.get(..2));
    let mut encoded = encoded.filter_map(|digits| u8::from_str_radix(digits, 16).ok());
    url.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !encoded.any(|byte| byte.is_ascii_control())
}

/// The host in lower case, and the port if there is one. An address has one form only: 127.1,
/// 0x7f000001, 0177.0.0.1 and 2130706433 are loopback to many resolvers.
fn host_and_port(authority: &str) -> Result<(String, Option<u16>), Refused> {
    let shown = |host: &str| Refused::Host(host.chars().take(200).collect());
    if let Some(inner) = authority.strip_prefix('[') {
        let (literal, rest) = inner.split_once(']').ok_or_else(|| shown(authority))?;
        let ip: Ipv6Addr = literal.parse().map_err(|_| shown(literal))?;
        return Ok((ip.to_string(), port(rest)?));
    }
    let at = authority.find(':').unwrap_or(authority.len());
    let (host, rest) = authority.split_at(at);
    let port = port(rest)?;
    if host.parse::<Ipv4Addr>().is_ok() {
        return Ok((host.to_owned(), port));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if is_name(name) {
        Ok((name.to_ascii_lowercase(), port))
    } else {
        Err(shown(host))
    }
}

fn port(rest: &str) -> Result<Option<u16>, Refused> {
    if rest.is_empty() {
        return Ok(None);
    }
    let wrong = || Refused::Port(rest.chars().take(40).collect());
    let digits = rest.strip_prefix(':').ok_or_else(wrong)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    match digits.parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(wrong()),
    }
}

/// A DNS name whose last label is no number.
fn is_name(name: &str) -> bool {
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253
        && name.split('.').all(fits)
        && !name.rsplit('.').next().is_some_and(is_number)
}

fn is_number(label: &str) -> bool {
    let hex = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|one| one.is_ascii_hexdigit()),
        None => label.bytes().all(|one| one.is_ascii_digit()),
    }
}

/// No name without a dot is public (ICANN, SAC 053), and some endings never are.
fn is_public_name(name: &str) -> bool {
    let inside = |ending: &str| name.ends_with(ending) || name == &ending[1..];
    name.contains('.') && !INSIDE.into_iter().any(inside)
}

/// `/hooks/../admin` begins as `/hooks/` does and is read by many servers as `/admin`.
fn climbs(path: &str) -> bool {
    let decoded = path
        .to_ascii_lowercase()
        .replace("%25", "%")
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/");
    let mut parts = decoded.split('/').filter_map(|part| part.split(';').next());
    parts.any(|part| part == "." || part == "..")
}

#[cfg(test)]
mod tests;
