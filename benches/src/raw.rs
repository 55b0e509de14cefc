//! The raw path: what any gateway on hyper and lapin must at least do, and nothing more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::net::TcpListener;

/// Channels that publish.
const CHANNELS: usize = 4;

/// Serves until it is killed: `listen` → queue of the broker at `url` → `http://sink/`.
pub(crate) async fn serve(listen: &str, url: &str, queue: &str, sink: &str) -> anyhow::Result<()> {
    let publishing = Connection::connect(url, ConnectionProperties::default()).await?;
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        let channel = publishing.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channels.push(channel);
    }
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channels[0]
        .queue_declare(queue.into(), QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }, arguments)
        .await?;
    tokio::spawn(consume(url.to_owned(), queue.to_owned(), sink.to_owned()));

    let channels = Arc::new(channels);
    let turn = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (channels, turn, queue) = (channels.clone(), turn.clone(), queue.to_owned());
        tokio::spawn(async move {
            let service = service_fn(move |request: http::Request<Incoming>| {
                let channel = channels[turn.fetch_add(1, Ordering::Relaxed) % CHANNELS].clone();
                accept(request, channel, queue.clone())
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn accept(
    request: http::Request<Incoming>,
    channel: Channel,
    queue: String,
) -> anyhow::Result<http::Response<Full<Bytes>>> {
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    let mut response = http::Response::new(Full::default());
    if bytes.is_empty() {
        return Ok(response);
    }
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel
        .basic_publish("".into(), queue.as_str().into(), BasicPublishOptions::default(), &bytes, properties)
        .await?
        .await?;
    anyhow::ensure!(matches!(confirm, Confirmation::Ack(None)), "not confirmed");
    *response.status_mut() = http::StatusCode::ACCEPTED;
    Ok(response)
}

async fn consume(url: String, queue: String, sink: String) -> anyhow::Result<()> {
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(256, BasicQosOptions::default()).await?;
    let mut consumer = channel
        .basic_consume(queue.as_str().into(), "raw".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(256).build_http();
    let target = format!("http://{sink}/");
    while let Some(delivery) = consumer.next().await {
        let mut delivery = delivery?;
        let (client, target) = (client.clone(), target.clone());
        tokio::spawn(async move {
            let body = Bytes::from(std::mem::take(&mut delivery.data));
            let request =
                http::Request::post(target).header("content-type", "application/json").body(Full::new(body))?;
            let mut answer = client.request(request).await?.into_body();
            while let Some(frame) = answer.frame().await {
                frame?;
            }
            anyhow::ensure!(delivery.ack(BasicAckOptions::default()).await?, "not acknowledged");
            anyhow::Ok(())
        });
    }
    Ok(())
}
