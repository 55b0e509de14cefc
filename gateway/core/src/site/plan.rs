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
    /// This route as messages of an endpoint go through it; `None` where none come from there.
    #[must_use]
    pub fn of<'a>(self: &'a Arc<Self>, endpoint: &str) -> Option<&'a Arc<Self>> {
        std::iter::once(self).chain(&self.others).find(|route| route.from == endpoint)
    }

    /// Maps, judges and routes one arrival; `document` is the XML that its body was read from, if it was XML. With
    /// `merge` this is what its source alone says.
    ///
    /// # Errors
    /// `Invalid` with violations where a row or the type refuses it, it has no key to be merged by, or a condition cannot
    /// be judged.
    pub fn plan(&self, source: &Value, document: Option<&Element>, meta: &Value) -> Result<Planned, Fault> {
        if self.pass.is_some() {
            return self.choose(source, meta);
        }
        let mut body = match &self.map {
            Some(map) => map.apply_to(source, document, &Scope::new().with("meta", meta)).map_err(|violations| {
                Fault::new(Code::Invalid, format!("mapping `{}` refuses it", map.name())).violations(violations)
            })?,
            None => source.clone(),
        };
        let Some(merge) = &self.merge else { return self.judge(body) };
        merge.name(&self.from, &mut body);
        self.sound(&body)?;
        let key = self.business_key(&body);
        merge.key(&body)?;
        // Who wants it is asked of the merged record.
        Ok(Planned { body, key, targets: Vec::new() })
    }

    /// Judges and routes a canonical body.
    ///
    /// # Errors
    /// As [`Route::plan`].
    pub fn judge(&self, body: Value) -> Result<Planned, Fault> {
        self.sound(&body)?;
        let key = self.business_key(&body);
        let targets = self.wanted_by(&Scope::new().with_fields(&body))?;
        Ok(Planned { body, key, targets })
    }

    /// Chooses the target of a body that goes through as it came.
    fn choose(&self, source: &Value, meta: &Value) -> Result<Planned, Fault> {
        let targets = self.wanted_by(&Scope::new().with_fields(source).with("meta", meta))?;
        Ok(Planned { body: Value::Null, key: self.business_key(source), targets })
    }

    /// The targets whose condition holds; where a caller waits, the first of them alone.
    fn wanted_by(&self, scope: &Scope<'_>) -> Result<Vec<Arc<Target>>, Fault> {
        let mut targets = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            if target.wants(scope)? {
                targets.push(target.clone());
                if self.request {
                    break;
                }
            }
        }
        Ok(targets)
    }

    fn business_key(&self, body: &Value) -> Option<String> {
        self.key.as_ref().and_then(|path| path.find(body)).and_then(Value::to_plain_text)
    }

    fn sound(&self, body: &Value) -> Result<(), Fault> {
        self.kind.validate(body).map_err(|violations| {
            Fault::new(Code::Invalid, format!("it is no `{}`", self.kind.name())).violations(violations)
        })
    }
}

impl Target {
    /// Whether the target's condition holds.
    fn wants(&self, scope: &Scope<'_>) -> Result<bool, Fault> {
        let Some(when) = &self.when else { return Ok(true) };
        when.test(scope).map_err(|error| {
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
