//! `gatehouse.yaml`: this instance. Where it listens, which bus and store it uses, what it tells about itself.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Files;
use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::limits::{parse_bytes, parse_duration};
use crate::secret::SecretRef;
use crate::yaml::{self, Located};

/// `gatehouse.yaml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayFile {
    /// The format of this file: 1.
    pub version: Located<u32>,
    /// What this instance is called in attempts, metrics and logs. Default `gatehouse`.
    #[serde(default)]
    pub name: Option<Located<String>>,
    /// Where systems call in: address and port. Default `127.0.0.1:8080`.
    #[serde(default)]
    pub listen: Option<Located<String>>,
    /// Certificate and key for `listen`. Without it the door speaks plain HTTP.
    #[serde(default)]
    pub tls: Option<TlsFile>,
    /// Metrics, health and the letters API. Always its own listener, on loopback by default.
    #[serde(default)]
    pub admin: Option<AdminFile>,
    /// The folder for the embedded bus, the SQLite store and the admin token, relative to the site. Default `data`.
    #[serde(default)]
    pub data: Option<Located<String>>,
    /// RabbitMQ. Without it the embedded bus is used: durable, one process.
    #[serde(default)]
    pub bus: Option<BusFile>,
    /// PostgreSQL. Without it SQLite in `data` is used: one gateway.
    #[serde(default)]
    pub store: Option<StoreFile>,
    /// Where bodies wait that are too large for the bus. Default: above 1MiB (8MiB where a broker is named that several
    /// gateways may share, and no folder that they share), in the folder `claims` within `data`.
    #[serde(default)]
    pub claims: Option<ClaimsFile>,
    /// Traces and logs.
    #[serde(default)]
    pub telemetry: Option<TelemetryFile>,
    /// How long ids and finished deliveries are remembered, so that a repeat is recognised. Default `7d`, at least `1d`.
    #[serde(default)]
    pub remember: Option<Located<String>>,
    /// The waits that a retry can take, shortest first; a wait is rounded down to one of them. All targets share these
    /// queues. Default `[5s, 30s, 2m, 10m, 1h]`, 1 to 10 of them, each from 50ms to 6h.
    #[serde(default)]
    pub ladder: Option<Located<Vec<String>>>,
}

/// `tls:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFile {
    /// PEM file with the certificate chain, relative to the site.
    pub certificate: String,
    /// PEM file with the private key, relative to the site.
    pub key: String,
}

/// `admin:`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminFile {
    /// Address and port. Default `127.0.0.1:9080`.
    pub listen: Option<Located<String>>,
    /// The bearer token of the letters API. Default: made at the first start, in `data/admin.token`.
    pub token: Option<SecretRef>,
}

/// `bus:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BusFile {
    /// The nodes of the cluster, tried in turn: `amqp://` or `amqps://` URLs, or `${env:NAME}` where they hold a password.
    pub urls: Vec<Located<String>>,
    /// PEM file with the CA that signed the broker's certificate, relative to the site. Default: the machine's.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// What every queue's name begins with. Default `gatehouse`.
    #[serde(default)]
    pub prefix: Option<Located<String>>,
    /// So many messages that come at once for one target travel in one message of the broker, at most; `1`: each has its
    /// own, and the broker's counts are counts of messages. 1 to 256, default 64.
    #[serde(default)]
    pub batch: Option<Located<u16>>,
}

/// `store:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreFile {
    /// A `postgres://` URL, or `${env:NAME}` where it holds a password.
    pub postgres: Located<String>,
    /// The schema that holds the tables. Default `gatehouse`.
    #[serde(default)]
    pub schema: Option<Located<String>>,
    /// PEM file with the CA that signed the server's certificate, relative to the site. Default: the machine's.
    #[serde(default)]
    pub ca_file: Option<String>,
}

/// `claims:`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimsFile {
    /// Bodies above this size wait in a file while the bus carries their receipt: `1MiB`, at most 8MiB. Default 1MiB, and
    /// 8MiB with `bus` and without `folder`.
    pub above: Option<Located<String>>,
    /// The folder, relative to the site. Gateways that share a broker share it, and it outlives them. Default `claims` within `data`.
    pub folder: Option<Located<String>>,
    /// How old a file is at least that nothing refers to any more before it is removed. Default `30d`, at least `1d`.
    pub keep: Option<Located<String>>,
}

/// `telemetry:`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryFile {
    /// Where traces go: the base URL of an OTLP/HTTP collector, `http://127.0.0.1:4318`. Default: no traces are sent.
    pub otlp: Option<Located<String>>,
    /// Which share of traces that nobody upstream decided on is kept, in percent. Default 10.
    pub sample_percent: Option<Located<u8>>,
    /// `pretty` or `json`. Default `pretty` on a terminal, else `json`.
    pub log: Option<Located<String>>,
}

/// A URL in clear, or where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// In the file; it holds no password.
    Clear(String),
    /// Somewhere secret.
    Secret(SecretRef),
}

/// The checked instance.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// What it is called.
    pub name: String,
    /// Where systems call in.
    pub listen: SocketAddr,
    /// The door's certificate.
    pub tls: Option<TlsConfig>,
    /// The admin listener.
    pub admin: AdminConfig,
    /// Folder for what it keeps, relative to the site.
    pub data: String,
    /// The bus; `None` is the embedded one.
    pub bus: Option<BusConfig>,
    /// The store; `None` is SQLite.
    pub store: Option<StoreConfig>,
    /// Where large bodies wait.
    pub claims: Claims,
    /// Traces and logs.
    pub telemetry: Telemetry,
    /// How long ids are remembered.
    pub remember: Duration,
    /// The waits that a retry can take.
    pub ladder: Vec<Duration>,
}

/// Certificate and key files, relative to the site.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// PEM chain.
    pub certificate: String,
    /// PEM key.
    pub key: String,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Where.
    pub listen: SocketAddr,
    /// The token; `None` is the one that is made at the first start.
    pub token: Option<SecretRef>,
}

/// A RabbitMQ cluster.
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// Its nodes.
    pub urls: Vec<Address>,
    /// CA file, relative to the site.
    pub ca_file: Option<String>,
    /// What names begin with.
    pub prefix: String,
    /// Parcels in one message at most.
    pub batch: usize,
}

/// A PostgreSQL store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where.
    pub url: Address,
    /// Which schema.
    pub schema: String,
    /// CA file, relative to the site.
    pub ca_file: Option<String>,
}

/// Where bodies wait that are too large for the bus.
#[derive(Clone, Debug)]
pub struct Claims {
    /// In bytes.
    pub above: usize,
    /// Relative to the site.
    pub folder: String,
    /// How long what nothing refers to is kept.
    pub keep: Duration,
}

/// What it tells about itself.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// OTLP/HTTP base URL.
    pub otlp: Option<String>,
    /// Share of root traces kept, in percent.
    pub sample_percent: u8,
    /// JSON logs: said, or `None` to decide by the terminal.
    pub json_logs: Option<bool>,
}

pub(super) fn check(files: &Files, problems: &mut Problems) -> Option<Gateway> {
    let Some(file) = files.get("gatehouse.yaml") else {
        let missing = SourceFile::new("gatehouse.yaml", "");
        problems.push(
            Problem::error("missing", &missing, 0..0, "a site needs a `gatehouse.yaml`")
                .help("the smallest one is the line `version: 1`"),
        );
        return None;
    };
    let read: GatewayFile = yaml::read(file, problems)?;
    check_version(&read.version, file, problems);
    let listen = socket(read.listen.as_ref(), "127.0.0.1:8080", file, problems);
    let admin = read.admin.unwrap_or_default();
    let admin_listen = socket(admin.listen.as_ref(), "127.0.0.1:9080", file, problems);
    let broker = read.bus.as_ref().map(|bus| bus.urls.first().map_or(0..0, |url| url.span.clone()));
    let shared = read.store.is_some().then(|| broker.clone()).flatten();
    let bus = read.bus.map(|bus| BusConfig {
        urls: bus.urls.iter().filter_map(|url| address(url, &["amqp://", "amqps://"], file, problems)).collect(),
        ca_file: bus.ca_file,
        prefix: bus.prefix.map_or_else(|| "gatehouse".to_owned(), |prefix| prefix.value),
        batch: bus.batch.map_or(64, |batch| {
            if !(1..=256).contains(&batch.value) {
                let text = "expected a number from 1 to 256";
                problems.push(Problem::error("bad-value", file, batch.span.clone(), text));
            }
            usize::from(batch.value)
        }),
    });
    let store = read.store.and_then(|store| {
        Some(StoreConfig {
            url: address(&store.postgres, &["postgres://", "postgresql://"], file, problems)?,
            schema: store.schema.map_or_else(|| "gatehouse".to_owned(), |schema| schema.value),
            ca_file: store.ca_file,
        })
    });
    let remember = match &read.remember {
        None => Duration::from_secs(7 * 86_400),
        Some(text) => parse_duration(text).filter(|d| *d >= Duration::from_secs(86_400)).unwrap_or_else(|| {
            problems.push(Problem::error("bad-value", file, text.span.clone(), "expected a time of at least `1d`"));
            Duration::ZERO
        }),
    };
    let data = read.data.map_or_else(|| "data".to_owned(), |data| data.value);
    let claims_read = read.claims.unwrap_or_default();
    if let (Some(at), None) = (shared, &claims_read.folder) {
        let text = "several gateways can share this broker and store, but not the files in which bodies above `claims.above` wait";
        let help = "name a `claims: { folder: … }` that all of them mount and that outlives them, also where only one runs today";
        problems.push(Problem::warning("claims-folder", file, at, text).help(help));
    }
    let claims = claims(claims_read, broker.is_some(), &data, file, problems);
    Some(Gateway {
        name: read.name.map_or_else(|| "gatehouse".to_owned(), |name| name.value),
        listen: listen?,
        tls: read.tls.map(|tls| TlsConfig { certificate: tls.certificate, key: tls.key }),
        admin: AdminConfig { listen: admin_listen?, token: admin.token },
        data,
        bus,
        store,
        claims,
        telemetry: telemetry(read.telemetry.unwrap_or_default(), file, problems),
        remember,
        ladder: ladder(read.ladder.as_ref(), file, problems),
    })
}

fn claims(read: ClaimsFile, broker: bool, data: &str, file: &SourceFile, problems: &mut Problems) -> Claims {
    let mut wrong = |at: &Located<String>, expected: &str| {
        problems.push(Problem::error("bad-value", file, at.span.clone(), format!("expected {expected}")));
    };
    // What another gateway may take from the broker is better whole on it, up to what every broker takes.
    let above = if broker && read.folder.is_none() { 8 << 20 } else { 1 << 20 };
    let mut claims = Claims { above, folder: format!("{data}/claims"), keep: Duration::from_secs(30 * 86_400) };
    if let Some(above) = &read.above {
        match parse_bytes(above).filter(|size| (1 << 10..=8 << 20).contains(size)) {
            Some(size) => claims.above = size,
            None => wrong(above, "a size from 1KiB to 8MiB"),
        }
    }
    if let Some(keep) = &read.keep {
        match parse_duration(keep).filter(|keep| *keep >= Duration::from_secs(86_400)) {
            Some(time) => claims.keep = time,
            None => wrong(keep, "a time of at least `1d`"),
        }
    }
    if let Some(folder) = read.folder {
        claims.folder = folder.value;
    }
    claims
}

fn ladder(read: Option<&Located<Vec<String>>>, file: &SourceFile, problems: &mut Problems) -> Vec<Duration> {
    let Some(read) = read else { return [5, 30, 120, 600, 3600].map(Duration::from_secs).to_vec() };
    let bounds = Duration::from_millis(50)..=Duration::from_secs(6 * 3600);
    let waits: Vec<_> =
        read.iter().filter_map(|wait| parse_duration(wait).filter(|wait| bounds.contains(wait))).collect();
    if waits.len() != read.len() || !(1..=10).contains(&waits.len()) || !waits.is_sorted_by(|a, b| a < b) {
        let expected = "expected 1 to 10 rising times from 50ms to 6h, such as `[5s, 30s, 2m]`";
        problems.push(Problem::error("bad-value", file, read.span.clone(), expected));
    }
    waits
}

/// Every file of a site says `version: 1`.
pub(super) fn check_version(version: &Located<u32>, file: &SourceFile, problems: &mut Problems) {
    if version.value != 1 {
        problems.push(
            Problem::error(
                "version",
                file,
                version.span.clone(),
                format!("this program reads version 1, not {}", version.value),
            )
            .help("write `version: 1`"),
        );
    }
}

fn telemetry(read: TelemetryFile, file: &SourceFile, problems: &mut Problems) -> Telemetry {
    if let Some(url) = &read.otlp
        && !url.starts_with("http://")
        && !url.starts_with("https://")
    {
        problems.push(Problem::error("bad-value", file, url.span.clone(), "expected an `http://` or `https://` URL"));
    }
    let sample_percent = read.sample_percent.map_or(10, |percent| {
        if percent.value > 100 {
            problems.push(Problem::error(
                "bad-value",
                file,
                percent.span.clone(),
                "expected a percentage from 0 to 100",
            ));
        }
        percent.value.min(100)
    });
    let json_logs = read.log.and_then(|log| match log.as_str() {
        "json" => Some(true),
        "pretty" => Some(false),
        _ => {
            problems.push(Problem::error("bad-value", file, log.span.clone(), "expected `json` or `pretty`"));
            None
        }
    });
    Telemetry { otlp: read.otlp.map(|url| url.value), sample_percent, json_logs }
}

fn socket(
    text: Option<&Located<String>>,
    default: &str,
    file: &SourceFile,
    problems: &mut Problems,
) -> Option<SocketAddr> {
    let word = text.map_or(default, |text| text.as_str());
    let parsed = word.parse().ok();
    if let (None, Some(text)) = (parsed, text) {
        problems.push(
            Problem::error("bad-value", file, text.span.clone(), "expected an IP address and a port")
                .help(format!("for example `{default}`")),
        );
    }
    parsed
}

fn address(text: &Located<String>, schemes: &[&str], file: &SourceFile, problems: &mut Problems) -> Option<Address> {
    if let Some(secret) = SecretRef::parse(text) {
        return Some(Address::Secret(secret));
    }
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let Some(rest) = rest else {
        let expected = schemes.join("` or `");
        problems.push(Problem::error(
            "bad-value",
            file,
            text.span.clone(),
            format!("expected a URL that begins with `{expected}`"),
        ));
        return None;
    };
    let authority = rest.split('/').next().unwrap_or("");
    if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
        problems.push(
            Problem::error("secret-in-clear", file, text.span.clone(), "this URL holds a password").help(
                "put the whole URL into the environment or a file and write `${env:NAME}` or `${file:/path}` here",
            ),
        );
        return None;
    }
    Some(Address::Clear(text.value.clone()))
}
