//! Where the broker is and how the gateway uses it. Parsed once: an [`Endpoint`] cannot be wrong.
//!
//! Not here: reaching it (`link`).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::BusError;

/// How to reach and use RabbitMQ. [`Config::new`] fills in what works for most.
#[derive(Clone)]
pub struct Config {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`; several hosts are tried in turn. `%2f` is the vhost `/`.
    pub urls: Vec<String>,
    /// What every exchange and queue begins with. Callers name queues `gatehouse.…`; another prefix replaces that word.
    pub prefix: String,
    /// The name that `rabbitmqctl list_connections client_properties` shows, with the connection's purpose behind it.
    pub name: String,
    /// PEM certificates that are trusted for `amqps` beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// A silent connection is found dead after two of these. Whole seconds; 10 s.
    pub heartbeat: Duration,
    /// Channels that publish; a queue always uses the same one, so what one task publishes in turn stays in turn. 4.
    pub channels: usize,
    /// Publishes that wait for their confirm on one channel at a time; the next one waits for room. 1,000.
    pub window: usize,
    /// Parcels in one message at most, where several are published to one queue at once; 1: each has its own. 64.
    pub batch: usize,
    /// How often a work queue's parcel may come back unsettled before the broker moves it to the dead queue. A crash
    /// counts for every parcel that was prefetched, and a consumer that pauses gives its prefetched parcels back: the
    /// engine counts attempts itself, so this is only the last fence against a parcel that kills its consumer. 1,000.
    pub delivery_limit: u32,
    /// Largest body in bytes; RabbitMQ 4 takes 16 MiB and closes the channel on more. 16 MiB.
    pub max_body: usize,
    /// How often the topology is declared again, so that what an operator deleted is back. 30 s.
    pub refresh: Duration,
}

impl Config {
    /// With defaults for everything but the hosts.
    #[must_use]
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            prefix: "gatehouse".to_owned(),
            name: "gatehouse".to_owned(),
            ca_file: None,
            heartbeat: Duration::from_secs(10),
            channels: 4,
            window: 1_000,
            batch: 64,
            delivery_limit: 1000,
            max_body: 16 * 1024 * 1024,
            refresh: Duration::from_secs(30),
        }
    }

    /// The hosts, each checked. No URL is repeated in an error: it holds a password.
    pub(super) fn endpoints(&self) -> Result<Vec<Endpoint>, BusError> {
        if self.urls.is_empty() {
            return Err(BusError::Contradiction(
                "no URL is named for the bus: give one like amqp://user:password@host:5672/%2f".to_owned(),
            ));
        }
        let prefix_fits = !self.prefix.is_empty()
            && self.prefix.len() <= 60
            && self.prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !prefix_fits {
            return Err(BusError::Contradiction(format!(
                "the bus prefix `{}` does not fit: 1 to 60 letters, digits, `-`, `_` and `.`",
                self.prefix
            )));
        }
        self.urls.iter().enumerate().map(|(at, url)| Endpoint::parse(at, url, self.heartbeat)).collect()
    }

    /// The certificates of `ca_file`.
    pub(super) fn ca(&self) -> Result<Option<String>, BusError> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let problem = |why: String| {
            BusError::Contradiction(format!(
                "the bus's ca_file {}: {why}; name a PEM file with certificates",
                path.display()
            ))
        };
        let pem = std::fs::read_to_string(path).map_err(|e| problem(e.to_string()))?;
        if pem.contains("-----BEGIN CERTIFICATE-----") {
            Ok(Some(pem))
        } else {
            Err(problem("no certificate in it".to_owned()))
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> =
            self.endpoints().map(|all| all.into_iter().map(|e| e.shown).collect()).unwrap_or_default();
        f.debug_struct("Config").field("hosts", &hosts).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// One host of the list.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) uri: AMQPUri,
    /// For people: scheme, host, port and vhost; no user, no password.
    pub(super) shown: String,
}

impl Endpoint {
    fn parse(at: usize, url: &str, heartbeat: Duration) -> Result<Self, BusError> {
        let problem = |why: &str| {
            BusError::Contradiction(format!(
                "URL {} of the bus {why}: it is written amqp://user:password@host:5672/%2f, or amqps:// with TLS; \
                 a `@`, `/`, `:` or `%` in the password is written %40, %2F, %3A, %25",
                at + 1
            ))
        };
        let (scheme, _) = url.split_once("://").ok_or_else(|| problem("has no scheme"))?;
        if scheme != "amqp" && scheme != "amqps" {
            return Err(problem("begins with neither amqp:// nor amqps://"));
        }
        let mut uri: AMQPUri = url.parse().map_err(|_| problem("cannot be read"))?;
        if uri.authority.host.is_empty() {
            return Err(problem("names no host"));
        }
        let seconds = heartbeat.as_secs().clamp(1, 600);
        uri.query.heartbeat = Some(u16::try_from(seconds).unwrap_or(10));
        let scheme = match uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let shown = format!("{scheme}://{}:{} vhost {}", uri.authority.host, uri.authority.port, uri.vhost);
        Ok(Self { uri, shown })
    }

    pub(super) fn tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_refused_without_being_shown() {
        for url in
            ["", "s3cret", "http://u:s3cret@h/", "amqp://u:s3cret@:5672/", "amqp://u:s3c ret@h:port/", "://s3cret"]
        {
            let error = Config::new(vec![url.to_owned()]).endpoints().err().expect(url).to_string();
            assert!(!error.contains("s3c"), "{error}");
            assert!(error.contains("amqp://user:password@host"), "{error}");
        }
        assert!(Config::new(Vec::new()).endpoints().is_err());
    }

    #[test]
    fn what_is_shown_has_no_password() {
        let config = Config::new(vec!["amqps://joe:s3cret@rabbit:5671/orders".to_owned()]);
        let endpoint = &config.endpoints().expect("parses")[0];
        assert_eq!(endpoint.shown, "amqps://rabbit:5671 vhost orders");
        assert!(endpoint.tls());
        assert_eq!(endpoint.uri.query.heartbeat, Some(10));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn a_prefix_must_fit_a_queue_name() {
        let mut config = Config::new(vec!["amqp://h/%2f".to_owned()]);
        config.prefix = "two words".to_owned();
        assert!(config.endpoints().is_err());
    }

    #[test]
    fn a_ca_file_must_hold_certificates() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut config = Config::new(vec!["amqps://h/%2f".to_owned()]);
        config.ca_file = Some(file.path().to_owned());
        assert!(config.ca().expect_err("empty").to_string().contains("no certificate"));
    }
}
