//! What an expression looks at: which names at its root, which fields below them, and which of these may be absent.

use std::collections::BTreeMap;

use rhai::{AST, ASTFlags, Expr, Position, Stmt};

use crate::reading::Reading;

/// What is looked at below one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// The whole value is needed.
    pub(super) whole: bool,
    /// `?.` or `??` says that it may be absent: then it is null.
    pub(super) optional: bool,
    /// Else only these fields.
    pub(super) fields: BTreeMap<String, Access>,
}

impl Access {
    /// Adds what is looked at to what is read.
    pub(super) fn read_into(&self, reading: &mut Reading) {
        if self.whole || self.fields.is_empty() {
            return reading.add_all();
        }
        for (name, access) in &self.fields {
            access.read_into(reading.field(name));
        }
    }
}

/// Everything an expression looks at.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// The names at its root, where each first stands.
    pub(super) roots: Vec<(String, Position)>,
    /// What is looked at below each.
    pub(super) accesses: Vec<(String, Access)>,
    /// The functions it calls.
    pub(super) functions: Vec<(String, Position)>,
    /// Something that the profile does not have.
    pub(super) refused: Option<(Position, String)>,
}

impl Reads {
    /// Of a compiled expression.
    pub(super) fn of(ast: &AST) -> Self {
        let mut reads = Self::default();
        for statement in ast.statements() {
            match statement {
                Stmt::Expr(expr) => reads.expr(expr, false),
                // A bare call is a statement.
                Stmt::FnCall(call, position) => reads.call(&call.name, call.op_token.is_none(), &call.args, *position),
                Stmt::Noop(_) => {}
                other => reads.refuse(other.position(), "expressions have no statements: no assignment, no `if`"),
            }
        }
        reads
    }

    fn refuse(&mut self, position: Position, what: &str) {
        self.refused.get_or_insert_with(|| (position, what.to_owned()));
    }

    fn call(&mut self, name: &str, named: bool, arguments: &[Expr], position: Position) {
        if named {
            self.functions.push((name.to_owned(), position));
        }
        for argument in arguments {
            self.expr(argument, false);
        }
    }

    fn root(&mut self, name: &str, position: Position) -> &mut Access {
        let index = match self.accesses.iter().position(|(known, _)| known == name) {
            Some(index) => index,
            None => {
                self.roots.push((name.to_owned(), position));
                self.accesses.push((name.to_owned(), Access::default()));
                self.accesses.len() - 1
            }
        };
        &mut self.accesses[index].1
    }

    /// `absent`: the end of this chain may be absent, because `??` stands behind it.
    fn expr(&mut self, expr: &Expr, absent: bool) {
        match expr {
            Expr::Variable(name, _, position) => {
                let access = self.root(&name.1, *position);
                access.whole = true;
                access.optional |= absent;
            }
            Expr::Dot(binary, flags, _) => self.dot(&binary.lhs, &binary.rhs, *flags, absent),
            Expr::Index(binary, ..) => {
                self.expr(&binary.lhs, absent);
                self.expr(&binary.rhs, false);
            }
            Expr::Coalesce(parts, _) => {
                for (index, part) in parts.iter().enumerate() {
                    self.expr(part, absent || index + 1 < parts.len());
                }
            }
            Expr::And(parts, _) | Expr::Or(parts, _) => parts.iter().for_each(|part| self.expr(part, false)),
            Expr::Array(parts, _) | Expr::InterpolatedString(parts, _) => {
                parts.iter().for_each(|part| self.expr(part, false))
            }
            Expr::Map(map, _) => map.0.iter().for_each(|(_, value)| self.expr(value, false)),
            Expr::FnCall(call, position) | Expr::MethodCall(call, position) => {
                self.call(&call.name, call.op_token.is_none(), &call.args, *position);
            }
            Expr::Stmt(block) => self.refuse(block.position(), "expressions have no blocks"),
            Expr::ThisPtr(position) => self.refuse(*position, "there is no `this` here"),
            _ => {}
        }
    }

    /// `lhs.rhs`: follows the chain of names as far as it goes; behind it the whole value is needed.
    fn dot(&mut self, lhs: &Expr, rhs: &Expr, flags: ASTFlags, absent: bool) {
        let mut names = Vec::new();
        let mut rest = None;
        let mut optional = flags.intersects(ASTFlags::NEGATED);
        let mut next = rhs;
        loop {
            match next {
                Expr::Property(property, _) => {
                    names.push((property.2.to_string(), optional || absent));
                    break;
                }
                Expr::Dot(binary, flags, _) => match &binary.lhs {
                    Expr::Property(property, _) => {
                        names.push((property.2.to_string(), optional));
                        optional = flags.intersects(ASTFlags::NEGATED);
                        next = &binary.rhs;
                    }
                    _ => {
                        rest = Some(next);
                        break;
                    }
                },
                other => {
                    rest = Some(other);
                    break;
                }
            }
        }
        if let Expr::Variable(name, _, position) = lhs {
            let mut access = self.root(&name.1, *position);
            for (name, optional) in names {
                access = access.fields.entry(name).or_default();
                access.optional |= optional;
            }
            access.whole = true;
        } else {
            self.expr(lhs, false);
        }
        match rest {
            Some(Expr::Dot(binary, ..)) => {
                self.chain(&binary.lhs);
                self.chain(&binary.rhs);
            }
            Some(rest) => self.chain(rest),
            None => {}
        }
    }

    /// What stands behind the names of a chain: method calls and indexes; properties there belong to what they return.
    fn chain(&mut self, expr: &Expr) {
        match expr {
            Expr::Property(..) => {}
            Expr::Dot(binary, ..) => {
                self.chain(&binary.lhs);
                self.chain(&binary.rhs);
            }
            Expr::Index(binary, ..) => {
                self.chain(&binary.lhs);
                self.expr(&binary.rhs, false);
            }
            other => self.expr(other, false),
        }
    }
}
