//! The slice of PostgreSQL's protocol that logical replication needs and tokio-postgres does not speak: a connection that is a
//! log. Log in, start, take copies of the log, answer (manual, "Streaming Replication Protocol" and "Message Formats").

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gatehouse_core::fault::{Code, Fault, Verdict};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::super::Reader;
use crate::postgres;

/// How long connecting and logging in may take, and any answer to a command.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest message that is taken: a row of PostgreSQL has at most 1 GiB.
const LARGEST: usize = 1 << 30;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is a log.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    input: BytesMut,
}

/// What comes of a log.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message of the plugin, at this place.
    Data { at: u64, body: Bytes },
    /// Nothing more is to be sent up to this place; whether an answer is wanted.
    Alive { end: u64, answer: bool },
}

struct Frame {
    tag: u8,
    body: Bytes,
}

impl Wire {
    /// Connects to a reader's database and logs in.
    pub(super) async fn open(reader: &Reader) -> Result<Self, Fault> {
        let opened = tokio::time::timeout(PATIENCE, Self::log_in(reader)).await;
        opened.unwrap_or_else(|_| Err(lost("the log's connection was not ready in time")))
    }

    async fn log_in(reader: &Reader) -> Result<Self, Fault> {
        let checked = &reader.checked;
        let place = format!("{}:{}", checked.host, checked.port);
        let unreachable = |error: std::io::Error| {
            Fault::new(Code::Unreachable, format!("{place} cannot be reached")).private(error.to_string())
        };
        let mut socket = TcpStream::connect((checked.host.as_str(), checked.port)).await.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        let stream: Box<dyn Stream> = if checked.tls {
            let mut ask = BytesMut::new();
            frontend::ssl_request(&mut ask);
            socket.write_all(&ask).await.map_err(unreachable)?;
            if socket.read_u8().await.map_err(unreachable)? != b'S' {
                return Err(Fault::new(Code::Misconfigured, format!("{place} speaks no TLS")));
            }
            let mut maker = tokio_postgres_rustls::MakeRustlsConnect::new(postgres::tls(checked)?);
            let connect = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut maker, &checked.host);
            let connect = connect.map_err(|error| match error {})?;
            Box::new(connect.connect(socket).await.map_err(unreachable)?)
        } else {
            Box::new(socket)
        };
        let mut wire = Self { stream, input: BytesMut::with_capacity(1 << 16) };
        // Texts come as every session can read them, whatever the server's defaults are.
        let options = "-c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1";
        let parameters = [
            ("user", checked.user.as_str()),
            ("database", checked.target.as_str()),
            ("replication", "database"),
            ("application_name", "gatehouse"),
            ("client_encoding", "UTF8"),
            ("options", options),
        ];
        let mut out = BytesMut::new();
        frontend::startup_message(parameters, &mut out).map_err(broken)?;
        wire.send(&out).await?;
        let password = reader.password.as_ref().map(|password| password.expose().as_bytes());
        wire.authenticate(checked.user.as_bytes(), password.unwrap_or_default()).await?;
        Ok(wire)
    }

    async fn authenticate(&mut self, user: &[u8], password: &[u8]) -> Result<(), Fault> {
        let mut scram = None;
        loop {
            let mut frame = self.frame().await?;
            match frame.tag {
                b'Z' => return Ok(()),
                b'R' if frame.body.len() >= 4 => {}
                b'R' => return Err(odd("an authentication request")),
                // Parameters, the key to cancel with, notices.
                _ => continue,
            }
            let mut out = BytesMut::new();
            match (frame.body.get_i32(), scram.as_mut()) {
                (0, _) => continue,
                (3, _) => frontend::password_message(password, &mut out).map_err(broken)?,
                (5, _) if frame.body.len() >= 4 => {
                    let mut salt = [0; 4];
                    frame.body.copy_to_slice(&mut salt);
                    let hash = md5_hash(user, password, salt);
                    frontend::password_message(hash.as_bytes(), &mut out).map_err(broken)?;
                }
                (10, _) => {
                    let offered = frame.body.split(|byte| *byte == 0).any(|word| word == b"SCRAM-SHA-256");
                    if !offered {
                        return Err(Fault::new(
                            Code::Misconfigured,
                            "the server offers no way to log in that is known",
                        ));
                    }
                    let started = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
                    frontend::sasl_initial_response("SCRAM-SHA-256", started.message(), &mut out).map_err(broken)?;
                    scram = Some(started);
                }
                (11, Some(scram)) => {
                    scram.update(&frame.body).map_err(broken)?;
                    frontend::sasl_response(scram.message(), &mut out).map_err(broken)?;
                }
                (12, Some(scram)) => {
                    scram.finish(&frame.body).map_err(broken)?;
                    continue;
                }
                _ => {
                    return Err(Fault::new(
                        Code::Misconfigured,
                        "the server wants a way to log in that is not spoken here",
                    ));
                }
            }
            self.send(&out).await?;
        }
    }

    /// Starts the log of a slot; nothing before `from` is sent again.
    pub(super) async fn start(&mut self, slot: &str, from: u64) -> Result<(), Fault> {
        let command = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL {} (proto_version '1', publication_names '\"{slot}\"')",
            super::slot::lsn_text(from)
        );
        let mut out = BytesMut::new();
        frontend::query(&command, &mut out).map_err(broken)?;
        self.send(&out).await?;
        loop {
            let answered = tokio::time::timeout(PATIENCE, self.frame()).await;
            match answered.unwrap_or_else(|_| Err(lost("the log did not start in time")))?.tag {
                b'W' => return Ok(()),
                b'N' | b'S' => {}
                _ => return Err(odd("an answer to START_REPLICATION")),
            }
        }
    }

    /// The next thing that comes within some time. What has come in part is kept for the next call.
    pub(super) async fn next(&mut self, wait: Duration) -> Result<Option<Incoming>, Fault> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let frame = match self.buffered()? {
                Some(frame) => frame,
                None => match tokio::time::timeout_at(deadline, self.fill()).await {
                    Ok(filled) => {
                        filled?;
                        continue;
                    }
                    Err(_) => return Ok(None),
                },
            };
            let mut body = match frame.tag {
                b'd' => frame.body,
                b'N' | b'S' => continue,
                b'c' => return Err(lost("the server ended the log")),
                _ => return Err(odd("a message of the log")),
            };
            return match (body.first(), body.len()) {
                (Some(b'w'), 25..) => {
                    body.advance(1);
                    let at = body.get_u64();
                    body.advance(16);
                    Ok(Some(Incoming::Data { at, body }))
                }
                (Some(b'k'), 18..) => {
                    body.advance(1);
                    let end = body.get_u64();
                    body.advance(8);
                    Ok(Some(Incoming::Alive { end, answer: body.get_u8() == 1 }))
                }
                _ => Err(odd("a copy of the log")),
            };
        }
    }

    /// Tells the server that it may forget everything up to here.
    pub(super) async fn status(&mut self, done: u64) -> Result<(), Fault> {
        let mut body = BytesMut::with_capacity(34);
        body.put_u8(b'r');
        for _ in 0..3 {
            body.put_u64(done);
        }
        // Microseconds since 2000-01-01; the server only shows it.
        let since = jiff::Timestamp::now().as_microsecond() - 946_684_800_000_000;
        body.put_i64(since);
        body.put_u8(0);
        let mut out = BytesMut::new();
        frontend::CopyData::new(body).map_err(broken)?.write(&mut out);
        self.send(&out).await
    }

    async fn send(&mut self, out: &[u8]) -> Result<(), Fault> {
        let sent = async {
            self.stream.write_all(out).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(PATIENCE, sent).await {
            Ok(sent) => sent.map_err(broken),
            Err(_) => Err(lost("the log's connection takes nothing")),
        }
    }

    async fn frame(&mut self) -> Result<Frame, Fault> {
        loop {
            match self.buffered()? {
                Some(frame) => return Ok(frame),
                None => self.fill().await?,
            }
        }
    }

    /// Reads what there is; nothing of it is lost where the call is dropped.
    async fn fill(&mut self) -> Result<(), Fault> {
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(lost("the log's connection was lost")),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }

    /// The next whole message of what was read; the server's errors are ours.
    fn buffered(&mut self) -> Result<Option<Frame>, Fault> {
        let Some((tag, length)) = self.input.first().zip(self.input.get(1..5)) else { return Ok(None) };
        let tag = *tag;
        let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        if !(4..=LARGEST).contains(&length) {
            return Err(odd("a length"));
        }
        if self.input.len() <= length {
            self.input.reserve(length + 1 - self.input.len());
            return Ok(None);
        }
        self.input.advance(5);
        let body = self.input.split_to(length - 4).freeze();
        if tag == b'E' {
            return Err(refused(&body));
        }
        Ok(Some(Frame { tag, body }))
    }
}

/// An error of the server's: fields of a letter and a text each.
fn refused(body: &[u8]) -> Fault {
    let field = |letter: u8| {
        let found = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&letter));
        found.map(|field| String::from_utf8_lossy(field.get(1..).unwrap_or_default()).into_owned()).unwrap_or_default()
    };
    let (state, message) = (field(b'C'), field(b'M'));
    let text = format!("the database refuses its log: {message}");
    let class = state.get(..2).unwrap_or_default();
    match (class, state.as_str()) {
        // In use: by a connection that is about to end, or by another reader.
        (_, "55006") | ("53" | "57" | "58" | "08" | "40", _) => {
            Fault::new(Code::Unreachable, text).verdict(Verdict::Retry)
        }
        ("28", _) | (_, "3D000") => Fault::new(Code::Misconfigured, text),
        _ => Fault::new(Code::Misconfigured, text).verdict(Verdict::Reject),
    }
}

fn lost(text: &str) -> Fault {
    Fault::new(Code::Unreachable, text)
}

fn odd(what: &str) -> Fault {
    Fault::new(Code::BadAnswer, format!("the database sends {what} that is not understood"))
}

fn broken(error: std::io::Error) -> Fault {
    Fault::new(Code::Unreachable, "the log's connection was lost").private(error.to_string())
}
