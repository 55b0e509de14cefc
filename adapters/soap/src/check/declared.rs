//! What a file names and a contract has: header blocks and fault details that a WSDL declares, and the operations of a contract made
//! of canonical types.

use gatehouse_core::xml::QName;
use gatehouse_core::yaml::Located;

use super::Check;
use crate::blocks::Declared;
use crate::contract::Contract;
use crate::file::{Block, BlockFile, DetailFile, EndpointFile, HeaderFault};
use crate::template::TemplateFile;

impl Check<'_> {
    /// A header block, by what the WSDL declares where that has it.
    pub(super) fn block(&mut self, read: &BlockFile, declared: &[Declared], names: &[&str]) -> Option<Block> {
        let found = self.declared(&read.name, read.namespace.as_ref(), declared, "a header block");
        let value = TemplateFile::check(&read.value, names, self.file, self.problems)?;
        let (name, declared) = found?;
        Some(Block { name, must_understand: read.must_understand, value, declared })
    }

    /// An element that says what is wrong, by what the WSDL declares where that has it.
    pub(super) fn of_fault(&mut self, read: &DetailFile, declared: &[Declared], what: &str) -> Option<Block> {
        let found = self.declared(&read.name, read.namespace.as_ref(), declared, what);
        let value = TemplateFile::check(&read.body, &["fault"], self.file, self.problems)?;
        let (name, declared) = found?;
        Some(Block { name, must_understand: false, value, declared })
    }

    /// The header blocks of faults about header blocks; one that the WSDL does not declare is about any.
    pub(super) fn header_faults(&mut self, read: &EndpointFile, contract: Option<&Contract>) -> Vec<HeaderFault> {
        let known = contract.map(Contract::header_faults).unwrap_or_default();
        let declared: Vec<_> = known.iter().map(|fault| fault.block.clone()).collect();
        let mut faults = Vec::new();
        for read in read.header_faults.iter().flat_map(|faults| &faults.value) {
            let Some(block) = self.of_fault(read, &declared, "a header block") else { continue };
            let about = known.iter().filter(|fault| *fault.block.name() == block.name);
            let about = about.map(|fault| fault.about.name().local.to_string()).collect();
            faults.push(HeaderFault { about, block });
        }
        faults
    }

    /// An element by its name, and what the WSDL declares of it: with a namespace where that does not.
    pub(super) fn declared(
        &mut self,
        name: &Located<String>,
        namespace: Option<&Located<String>>,
        declared: &[Declared],
        what: &str,
    ) -> Option<(QName, Option<Declared>)> {
        let local = self.local(name);
        let said = namespace.map(|namespace| namespace.trim());
        let found = declared.iter().find(|one| {
            let name = one.name();
            *name.local == *local && said.is_none_or(|said| name.namespace.as_deref().unwrap_or_default() == said)
        });
        if let Some(found) = found {
            return Some((found.name().clone(), Some(found.clone())));
        }
        match said {
            Some(said) if !said.is_empty() => Some((QName::new(Some(said), &local), None)),
            _ => {
                let known: Vec<_> = declared.iter().map(|one| one.name().local.to_string()).collect();
                let help = match known.as_slice() {
                    [] => "write its `namespace`".to_owned(),
                    known => format!("write its `namespace`, or name one that the WSDL declares: {}", known.join(", ")),
                };
                self.mend("no-namespace", name, format!("{what} has a namespace"), &help);
                None
            }
        }
    }

    /// The operation of a contract that is made from canonical types.
    pub(super) fn offered(
        &mut self,
        name: &Located<String>,
        read: &EndpointFile,
        listen: &Located<String>,
    ) -> Option<Contract> {
        let reply = read.reply.as_ref().map(|reply| &reply.value);
        let said = [
            ("element", reply.and_then(|reply| reply.element.as_ref()).map(|field| &field.span)),
            ("namespace", reply.and_then(|reply| reply.namespace.as_ref()).map(|field| &field.span)),
        ];
        self.misplaced(&said, "the reply of an operation with a `type`", "leave it out: the contract says it");
        if let Some(reply) = reply
            && let (Some(body), None) = (&reply.body, &reply.kind)
        {
            let help = "name the type of what is answered: `reply: { type: NAME, body: … }`, or leave `body` out";
            self.mend("reply-type", body, "the WSDL cannot say what is answered", help);
        }
        let operation = read.operation.as_ref().unwrap_or(name).as_str();
        let offer = self.offers.get(listen.as_str())?;
        let (_, port) = offer.wsdl.soap_ports().next()?;
        let (operation, offered) = (port.operation(operation)?.clone(), offer.operation(operation));
        Some(Contract { wsdl: offer.wsdl.clone(), operation, offered })
    }
}
