//! `gatehouse schema`: the JSON Schema of each kind of file, for editors that complete and check YAML.

use std::process::ExitCode;

use gatehouse_core::site::{GatewayFile, RoutesFile, TestsFile};
use schemars::{Schema, schema_for};

use super::out;

/// Every kind and its schema: the files of the site, then one for each adapter's system files.
pub(super) fn schemas() -> Vec<(String, Schema)> {
    let mut all = vec![
        ("gateway".to_owned(), schema_for!(GatewayFile)),
        ("routes".to_owned(), schema_for!(RoutesFile)),
        ("tests".to_owned(), schema_for!(TestsFile)),
        ("mapping".to_owned(), gatehouse_core::mapping::json_schema()),
    ];
    all.extend(crate::registry::adapters(None).iter().map(|adapter| (adapter.name().to_owned(), adapter.schema())));
    all
}

pub(super) fn run(kind: Option<&str>) -> anyhow::Result<ExitCode> {
    let all = schemas();
    let names = || all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(kind) = kind else {
        out::line(format!("gatehouse schema KIND, where KIND is one of: {}", names()));
        return Ok(ExitCode::SUCCESS);
    };
    match all.iter().find(|(name, _)| name == kind) {
        Some((_, schema)) => {
            out::json(schema);
            Ok(ExitCode::SUCCESS)
        }
        None => {
            out::note(format!("error: there is no kind `{kind}`; there are: {}", names()));
            Ok(ExitCode::from(out::WRONG))
        }
    }
}
