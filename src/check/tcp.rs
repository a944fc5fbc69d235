//! `kind = "tcp"`: whether something listens at an address: `host:port`, or the path of a UNIX socket.
//!
//! Closed is only what refuses: an address that stays silent is neither open nor closed, and both are a no.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{Check, Finding, Kind, Reads, promptly};
use crate::context::{Context, default_timeout, run};
use crate::error::{Error, Result};
use crate::plan::{Fields, Scope, Template};

/// Keys: `address`, `open` (true by default), `timeout` (30 s).
pub(super) const KIND: Kind = Kind { name: "tcp", read, reads: Reads::Nothing };

fn read(fields: &mut Fields) -> Box<dyn Check> {
    Box::new(Asked {
        address: fields.need_template("address"),
        open: fields.flag("open", true),
        timeout: fields.time_limit("timeout").unwrap_or(default_timeout::CHECK),
    })
}

struct Asked {
    address: Template,
    open: bool,
    timeout: Duration,
}

enum Door {
    Open,
    Closed,
    Unknown(String),
}

impl Check for Asked {
    fn describe(&self, scope: &Scope) -> String {
        let address = self.address.expand(scope).unwrap_or_default();
        match self.open {
            true => format!("connect to {address}"),
            false => format!("nothing listens at {address}"),
        }
    }

    fn time_limit(&self) -> Option<Duration> {
        Some(self.timeout)
    }

    fn ask(&self, cx: &Context<'_>) -> Result<Finding> {
        let address = self.address.expand(&cx.scope)?;
        let door = match address.starts_with('/') {
            true => unix(&address),
            false => {
                let (address, timeout) = (address.clone(), self.timeout);
                promptly(cx, move || tcp(&address, timeout))??
            }
        };
        Ok(match (door, self.open) {
            (Door::Open, true) => Finding::yes("open"),
            (Door::Open, false) => Finding::no(format!("something listens at `{address}`")),
            (Door::Closed, true) => Finding::no("connection refused"),
            (Door::Closed, false) => Finding::yes("closed"),
            (Door::Unknown(why), _) => Finding::no(why),
        })
    }
}

fn unix(path: &str) -> Door {
    match UnixStream::connect(path) {
        Ok(_) => Door::Open,
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Door::Closed,
        Err(error) => Door::Unknown(error.to_string()),
    }
}

fn tcp(address: &str, timeout: Duration) -> Result<Door> {
    if !address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
        return Err(Error::new(format!("`{address}` is not an address"))
            .hint("an address is a host and a port, as in `127.0.0.1:8080`, or the path of a socket"));
    }
    let addresses: Vec<_> = match address.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Ok(Door::Unknown(format!("the host is not known: {error}"))),
    };
    let deadline = Instant::now() + timeout;
    let mut unknown = None;
    for each in &addresses {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(each, left) {
            // On loopback a connect to a free port of the ephemeral range can meet itself: nobody listens there.
            Ok(stream) if stream.local_addr().ok() == stream.peer_addr().ok() => {}
            Ok(_) => return Ok(Door::Open),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            // A machine without IPv6 still resolves `localhost` to `::1`.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable && addresses.len() > 1 => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                unknown = Some(format!("no answer within {}", run::in_words(timeout)))
            }
            Err(error) => unknown = Some(error.to_string()),
        }
    }
    Ok(unknown.map_or(Door::Closed, Door::Unknown))
}
