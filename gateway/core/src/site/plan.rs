//! What a route makes of one arrival: the canonical body and the targets that want it. Pure, so that the engine,
//! `gatehouse try` and the site's tests do exactly the same.

use std::sync::Arc;

use super::{Route, Target};
use crate::expr::Scope;
use crate::fault::{Code, Fault};
use crate::value::Value;
use crate::xml::Element;

/// What a route makes of one arrival.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The canonical body, judged by its type.
    pub body: Value,
    /// The business key.
    pub key: Option<String>,
    /// The targets whose condition holds.
    pub targets: Vec<Arc<Target>>,
}

impl Route {
    /// Maps, judges and routes one arrival; `document` is the XML that its body was read from, if it was XML.
    ///
    /// # Errors
    /// `Invalid` with violations where a row or the type refuses it, or a condition cannot be judged.
    pub fn plan(&self, source: &Value, document: Option<&Element>, meta: &Value) -> Result<Planned, Fault> {
        let body = match &self.map {
            Some(map) => map.apply_to(source, document, &Scope::new().with("meta", meta)).map_err(|violations| {
                Fault::new(Code::Invalid, format!("mapping `{}` refuses it", map.name())).violations(violations)
            })?,
            None => source.clone(),
        };
        self.kind.validate(&body).map_err(|violations| {
            Fault::new(Code::Invalid, format!("it is no `{}`", self.kind.name())).violations(violations)
        })?;
        let key = self.key.as_ref().and_then(|path| path.find(&body)).and_then(Value::to_plain_text);
        let mut targets = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            if target.wants(&body)? {
                targets.push(target.clone());
            }
        }
        Ok(Planned { body, key, targets })
    }
}

impl Target {
    /// Whether the target's condition holds.
    fn wants(&self, body: &Value) -> Result<bool, Fault> {
        let Some(when) = &self.when else { return Ok(true) };
        when.test(&Scope::new().with_fields(body)).map_err(|error| {
            let text = format!("the condition `{}` of target `{}` cannot be judged: {error}", when.text(), self.name);
            Fault::new(Code::Invalid, text)
        })
    }
}

/// The canonical body in a target's shape.
///
/// # Errors
/// `Invalid` with the rows that failed: nothing that a retry could mend.
pub fn outbound_body<'a>(target: &Target, body: &'a Value) -> Result<std::borrow::Cow<'a, Value>, Fault> {
    match &target.map {
        None => Ok(std::borrow::Cow::Borrowed(body)),
        Some(map) => map.apply(body, &Scope::new()).map(std::borrow::Cow::Owned).map_err(|violations| {
            let first = violations.first().map(|violation| format!(": {}", violation.message)).unwrap_or_default();
            Fault::new(Code::Invalid, format!("mapping `{}` refuses the message{first}", map.name()))
                .violations(violations)
        }),
    }
}
