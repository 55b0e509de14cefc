//! The check of how a system and Gatehouse prove who they are, as far as it stands in the envelope.

use gatehouse_core::adapter::SiteFiles;
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::yaml::Located;

use super::file::{SignAnswersFile, SoapAcceptFile, SoapAuthFile, TrustFile, VerifyFile};
use crate::file::SystemFile;

/// `auth:`, with files where they stand on this machine.
pub(crate) fn check_auth(
    read: &SystemFile,
    site: &dyn SiteFiles,
    file: &SourceFile,
    problems: &mut Problems,
) -> SoapAuthFile {
    let Some(said) = &read.auth else { return SoapAuthFile::default() };
    let mut auth = said.value.clone();
    let with_token = auth.username_token.is_some();
    let Some(signature) = &mut auth.signature else { return auth };
    signature.certificate_file = site.locate(&signature.certificate_file.to_string_lossy());
    signatures_are_built(said, file, problems);
    if with_token {
        let message = "a password and a signature in one envelope";
        tell(problems, "two-credentials", file, said, message, "keep one of them");
    }
    if let Some(charset) = read.charset.as_ref().filter(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        tell(problems, "misplaced", file, charset, "signed calls are written in UTF-8", "leave out `charset`");
    }
    for (_, endpoint) in &read.endpoints.0 {
        if let Some(attachments) = endpoint.attachments.as_ref().filter(|_| endpoint.listen.is_none()) {
            let message = "a signed call has no parts beside its envelope";
            tell(problems, "misplaced", file, attachments, message, "leave it out");
        }
    }
    auth
}

/// `accept:`, with files where they stand on this machine.
pub(crate) fn check_accept(
    read: &SystemFile,
    site: &dyn SiteFiles,
    file: &SourceFile,
    problems: &mut Problems,
) -> SoapAcceptFile {
    let Some(said) = &read.accept else { return SoapAcceptFile::default() };
    let mut accept = said.value.clone();
    let Some(signature) = &mut accept.signature else { return accept };
    check_trust(signature, said, site, file, problems);
    signatures_are_built(said, file, problems);
    accept
}

/// `verify:`, with files where they stand on this machine.
pub(crate) fn check_verify(
    read: &SystemFile,
    site: &dyn SiteFiles,
    file: &SourceFile,
    problems: &mut Problems,
) -> Option<VerifyFile> {
    let said = read.verify.as_ref()?;
    let mut verify = said.value.clone();
    check_trust(&mut verify.signature, said, site, file, problems);
    signatures_are_built(said, file, problems);
    Some(verify)
}

/// `sign:`, with files where they stand on this machine.
pub(crate) fn check_sign(
    read: &SystemFile,
    site: &dyn SiteFiles,
    file: &SourceFile,
    problems: &mut Problems,
) -> Option<SignAnswersFile> {
    let said = read.sign.as_ref()?;
    let mut sign = said.value.clone();
    sign.signature.certificate_file = site.locate(&sign.signature.certificate_file.to_string_lossy());
    signatures_are_built(said, file, problems);
    for (_, endpoint) in &read.endpoints.0 {
        if let Some(attachments) = endpoint.attachments.as_ref().filter(|_| endpoint.listen.is_some()) {
            let message = "a signed answer has no parts beside its envelope";
            tell(problems, "misplaced", file, attachments, message, "leave it out");
        }
    }
    Some(sign)
}

/// Whose signatures are good: somebody's, and of the certificates that a CA gives those of somebody who is named.
fn check_trust<T>(
    trust: &mut TrustFile,
    said: &Located<T>,
    site: &dyn SiteFiles,
    file: &SourceFile,
    problems: &mut Problems,
) {
    for path in trust.certificate_files.iter_mut().chain(&mut trust.ca_files) {
        *path = site.locate(&path.to_string_lossy());
    }
    if trust.certificate_files.is_empty() && trust.ca_files.is_empty() {
        let help = "name the system's certificate in `certificate_files`, or the CA that it is of in `ca_files`";
        tell(problems, "no-certificate", file, said, "nobody may sign", help);
    }
    if !trust.ca_files.is_empty() && trust.subjects.is_empty() {
        let message = "the CA gives certificates to others too, and nobody is named whose signature counts";
        let help = "write `subjects: [\"CN=oa,O=Example,C=CN\"]`, or `subjects: [\"*\"]` for everybody";
        tell(problems, "no-subjects", file, said, message, help);
    }
    if trust.ca_files.is_empty() && !trust.subjects.is_empty() {
        let message = "`subjects` means nothing without `ca_files`: the certificates are named one by one";
        tell(problems, "misplaced", file, said, message, "leave it out");
    }
}

fn signatures_are_built<T>(at: &Located<T>, file: &SourceFile, problems: &mut Problems) {
    if !cfg!(feature = "ws-security") {
        let message = "this Gatehouse was built without signatures";
        tell(problems, "not-built", file, at, message, "build it with `--features ws-security`");
    }
}

fn tell<T>(problems: &mut Problems, code: &'static str, file: &SourceFile, at: &Located<T>, message: &str, help: &str) {
    problems.push(Problem::error(code, file, at.span.clone(), message).help(help));
}
