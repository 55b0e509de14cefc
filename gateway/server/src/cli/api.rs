//! The admin listener of a running gateway, as the commands see it that talk to one.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use gatehouse_core::site::{Gateway, Site};
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SiteArgs;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest answer that is read.
const MAX_ANSWER: usize = 64 << 20;

/// Who is at the desk.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeskArgs {
    /// Who does it, for the audit.
    #[arg(long, env = "USER", default_value = "operator", global = true)]
    pub(super) actor: String,
}

/// The gateway's admin listener as a client sees it.
pub(super) struct Api {
    base: String,
    token: String,
}

impl Api {
    /// Of the gateway that runs this site.
    pub(super) fn of(site: &Site, args: &SiteArgs) -> anyhow::Result<Self> {
        let token = crate::admin::token(&site.gateway, &args.site)?;
        Ok(Self { base: format!("http://{}", site.gateway.admin.listen), token: token.expose().to_owned() })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.send::<(), T>("GET", path, None).await
    }

    pub(super) async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&B>,
    ) -> anyhow::Result<T> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let (status, text) = exchange(request)
            .await
            .with_context(|| format!("no gateway answers at {}; start it with `gatehouse run`", self.base))?;
        if (200..300).contains(&status) {
            return Ok(serde_json::from_slice(&text)?);
        }
        bail!("{}", explain(status, &text));
    }
}

/// One answer of the admin listener, without a token: status and text.
pub(super) async fn get_text(gateway: &Gateway, path: &str) -> anyhow::Result<(u16, String)> {
    let request =
        http::Request::builder().uri(format!("http://{}{path}", gateway.admin.listen)).body(Full::default())?;
    let (status, bytes) = exchange(request).await?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

async fn exchange(request: http::Request<Full<Bytes>>) -> anyhow::Result<(u16, Bytes)> {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let exchange = async {
        let response = client.request(request).await?;
        let status = response.status().as_u16();
        let (parts, body) = response.into_parts();
        let body = gatehouse_net::body::read(&parts.headers, body, MAX_ANSWER, gatehouse_net::body::From::Peer).await;
        let body = body.map_err(|fault| anyhow::anyhow!(fault.public))?;
        anyhow::Ok((status, body))
    };
    tokio::time::timeout(PATIENCE, exchange).await.context("no answer in time")?
}

/// A problem document as people read it.
fn explain(status: u16, text: &[u8]) -> String {
    let Ok(problem) = serde_json::from_slice::<serde_json::Value>(text) else {
        return format!("the gateway answered {status}: {}", String::from_utf8_lossy(text));
    };
    let mut said = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("refused").to_owned();
    for violation in problem["violations"].as_array().into_iter().flatten() {
        let (pointer, message) =
            (violation["pointer"].as_str().unwrap_or(""), violation["message"].as_str().unwrap_or(""));
        said.push_str(&format!("\n  {pointer}: {message}"));
    }
    said
}
