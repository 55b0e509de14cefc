//! `gatehouse doctor`: reaches every system, the bus and the store, and says what is wrong and how to mend it.
//!
//! It leaves no trace at the systems. It opens the store and the bus as `run` would, so beside a running gateway with
//! the embedded bus it asks that gateway instead.

use std::process::ExitCode;
use std::time::Duration;

use gatehouse_core::adapter::Direction;
use gatehouse_core::secret::Secrets;

use super::{SiteArgs, check, out};
use crate::site::ProcessSecrets;

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a look found.
#[derive(serde::Serialize)]
struct Finding {
    what: String,
    ok: bool,
    text: String,
    mend: Option<String>,
}

pub(super) async fn run(args: &SiteArgs) -> anyhow::Result<ExitCode> {
    let site = match check::sound(args)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let secrets = ProcessSecrets::new(&args.site);
    let mut findings = vec![finding("site", Ok(format!("{} is sound", args.site.display())))];
    findings.push(gateway(&site, args).await);
    for (name, system) in &site.systems {
        if system.endpoints().iter().any(|endpoint| endpoint.direction == Direction::Outbound) {
            findings.push(reach(name, system.as_ref(), &secrets).await);
        }
        let inbound: Vec<_> =
            system.endpoints().iter().filter(|endpoint| endpoint.direction == Direction::Inbound).collect();
        if system.listens_apart() {
            for endpoint in inbound {
                let listened = system.listen(Some(&endpoint.name), &secrets).await;
                findings.push(finding(
                    &format!("{name}/{}, read from", endpoint.name),
                    listened
                        .map(|_| format!("{}: all that it needs is there", endpoint.summary))
                        .map_err(|f| explain(&f)),
                ));
            }
        } else if !inbound.is_empty() {
            let listened = system.listen(None, &secrets).await;
            findings.push(finding(
                &format!("system {name}, calling in"),
                listened.map(|_| "its credentials are there".to_owned()).map_err(|f| explain(&f)),
            ));
        }
    }
    let well = findings.iter().all(|finding| finding.ok);
    if args.json {
        out::json(&findings);
    } else {
        for finding in &findings {
            out::line(format!("{} {}: {}", if finding.ok { "ok  " } else { "BAD " }, finding.what, finding.text));
            if let Some(mend) = &finding.mend {
                out::line(format!("     {mend}"));
            }
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(out::FAILED) })
}

/// The gateway that runs this site, or what it would need.
async fn gateway(site: &gatehouse_core::site::Site, args: &SiteArgs) -> Finding {
    match super::api::get_text(&site.gateway, "/readyz").await {
        Ok((200, _)) => finding("gateway", Ok(format!("runs and is ready; admin at {}", site.gateway.admin.listen))),
        Ok((_, text)) => {
            finding("gateway", Err((format!("runs, but is not ready: {}", text.trim()), "see its log".to_owned())))
        }
        Err(_) => {
            let secrets = ProcessSecrets::new(&args.site);
            match crate::engine::look(&site.gateway, &args.site, &secrets, PATIENCE).await {
                Ok(text) => {
                    finding("bus and store", Ok(format!("{text}; no gateway runs at {}", site.gateway.admin.listen)))
                }
                Err(error) => finding(
                    "bus and store",
                    Err((format!("{error:#}"), "is it running, and are address and credentials right?".to_owned())),
                ),
            }
        }
    }
}

async fn reach(name: &str, system: &dyn gatehouse_core::adapter::System, secrets: &dyn Secrets) -> Finding {
    let look = async {
        let outbound = system.connect(secrets).await?;
        outbound.probe().await
    };
    let outcome = match tokio::time::timeout(PATIENCE, look).await {
        Ok(outcome) => outcome.map_err(|fault| explain(&fault)),
        Err(_) => Err((
            format!("no answer within {} s", PATIENCE.as_secs()),
            "is the address right, and does a firewall let it through?".to_owned(),
        )),
    };
    finding(&format!("system {name}"), outcome)
}

fn explain(fault: &gatehouse_core::Fault) -> (String, String) {
    use gatehouse_core::fault::Code;
    let mend = match fault.code {
        Code::Unreachable => "is it running, is the address right, and does a firewall let it through?",
        Code::Unauthenticated | Code::Forbidden => "are the credentials right, and may this user do that?",
        Code::Misconfigured => "mend the system's file or the secret that it names",
        _ => "see the system's own log",
    };
    let private = fault.private.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
    (format!("{}{private}", fault.public), mend.to_owned())
}

fn finding(what: &str, outcome: Result<String, (String, String)>) -> Finding {
    let what = what.to_owned();
    match outcome {
        Ok(text) => Finding { what, ok: true, text, mend: None },
        Err((text, mend)) => Finding { what, ok: false, text, mend: Some(mend) },
    }
}
