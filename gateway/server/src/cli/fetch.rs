//! A WSDL and what it imports, fetched into a folder: only over HTTP, only from hosts that were named, never from a redirect.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use gatehouse_core::diagnostics::SourceFile;
use gatehouse_core::xml;
use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_soap::connect::{imports, local_name};
use http::Request;
use url::Url;

use super::out;

/// The most documents of one WSDL.
const MAX_DOCUMENTS: usize = 200;

/// The largest of them, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetches `address` and all that it leads to into `folder`; where the WSDL stands then. An import of a host that is not among
/// `hosts` is told and left out.
///
/// # Errors
/// The WSDL itself cannot be had.
pub(super) async fn fetch(address: &str, hosts: &[String], folder: &Path) -> anyhow::Result<PathBuf> {
    let first = Url::parse(address).with_context(|| format!("`{address}` is no URL"))?;
    if !is_allowed(&first, hosts) {
        bail!("`{address}` is on the network: allow its host by `--fetch {}`", first.host_str().unwrap_or("HOST"));
    }
    let root = folder.join(local_name(address));
    let mut seen = HashSet::from([first.clone()]);
    let mut queue = VecDeque::from([(first, root.clone())]);
    while let Some((url, path)) = queue.pop_front() {
        let bytes = match get(&url).await {
            Ok(bytes) => bytes,
            Err(error) if path == root => return Err(error),
            Err(error) => {
                out::note(format!("warning: {error:#}"));
                continue;
            }
        };
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
        let Ok(text) = xml::text_of(&bytes, None) else { continue };
        for location in imports(&SourceFile::new("fetched", text)) {
            let Ok(next) = url.join(&location) else { continue };
            if !is_allowed(&next, hosts) {
                out::note(format!("warning: `{next}` is not fetched: its host was not named"));
            } else if seen.len() >= MAX_DOCUMENTS {
                bail!("the WSDL has more than {MAX_DOCUMENTS} documents");
            } else if seen.insert(next.clone()) {
                queue.push_back((next, place(&path, &location, folder)));
            }
        }
    }
    Ok(root)
}

/// Where an import is kept, so that it is found again by its location: a plain relative one where it says, any other beside.
fn place(from: &Path, location: &str, root: &Path) -> PathBuf {
    let folder = from.parent().unwrap_or(root);
    let plain = !location.contains("://") && !location.contains(['?', '#', '\\']) && !location.starts_with('/');
    let inside = |path: &Path| !path.components().any(|part| matches!(part, std::path::Component::ParentDir));
    match plain && inside(Path::new(location)) {
        true => folder.join(location),
        false => folder.join(local_name(location)),
    }
}

fn is_allowed(url: &Url, hosts: &[String]) -> bool {
    let host = url.host_str().unwrap_or_default();
    matches!(url.scheme(), "http" | "https") && hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
}

async fn get(url: &Url) -> anyhow::Result<Bytes> {
    let address = url.origin().ascii_serialization();
    let config = ClientConfig { address, ca_file: None, max_answer: MAX_BYTES, connections: 1 };
    let failed = |fault: gatehouse_core::Fault| anyhow::anyhow!("cannot fetch {url}: {}", fault.public);
    let client = Client::new(&config).map_err(failed)?;
    let request = Request::get(url.as_str()).body(Bytes::new())?;
    let answer = tokio::time::timeout(PATIENCE, client.send(request)).await;
    let answer =
        answer.map_err(|_| anyhow::anyhow!("cannot fetch {url}: no answer within {} s", PATIENCE.as_secs()))?;
    let answer = answer.map_err(failed)?;
    if !answer.status().is_success() {
        bail!("cannot fetch {url}: it answered {}", answer.status());
    }
    Ok(answer.into_body())
}
