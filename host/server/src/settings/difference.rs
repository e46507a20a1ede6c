//! Compares settings, to find changes that need a restart.

use std::fmt::Debug;

use postern_signing::{Auth, ProxySettings, SignerSelection};
use secrecy::ExposeSecret as _;

use super::Settings;

impl Settings {
    /// The signer selection; `None` without a KMS proxy.
    pub(crate) fn signer_selection(&self) -> Option<&SignerSelection> {
        Some(&self.signing.as_ref()?.proxy.as_ref()?.selection)
    }

    /// The names of changed settings that need a restart. Settings that a running host applies are not included.
    pub(crate) fn differences(&self, new: &Self) -> Vec<&'static str> {
        let sections = [
            ("listen", same(&self.listen, &new.listen)),
            ("admin", same(&self.admin, &new.admin)),
            ("gate", same(&self.gate, &new.gate)),
            ("signing", same(&signing(self), &signing(new))),
            ("audit", same(&self.audit, &new.audit)),
            ("license", same(&self.license, &new.license)),
            ("policies.default", same(&self.default, &new.default)),
            ("policies.cache", same(&self.cache, &new.cache)),
            ("policies.watch", same(&self.watch, &new.watch)),
            ("tamper.check", same(&self.tamper_check, &new.tamper_check)),
            ("tamper.strict", same(&self.policies.strict, &new.policies.strict)),
            ("policies.keyvalue", same(&self.keyvalue, &new.keyvalue)),
            ("log", same(&self.log, &new.log)),
        ];
        let differing = sections.into_iter().filter(|(_, same)| !same);
        differing.map(|(name, _)| name).collect()
    }
}

/// Compares the debug output, which contains everything but secrets: a change of a secret is not noticed.
fn same<T: Debug>(one: &T, other: &T) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

/// The signing settings without the signer selection; and the digest of the token, which debug output does not contain.
fn signing(settings: &Settings) -> impl Debug {
    let signing = settings.signing.clone().map(|mut signing| {
        if let Some(proxy) = &mut signing.proxy {
            proxy.selection = SignerSelection::default();
        }
        signing
    });
    let proxy = signing.as_ref().and_then(|signing| signing.proxy.as_ref());
    let token = proxy.and_then(token);
    (signing, token)
}

/// The digest of the token: the comparison must not hold secrets.
fn token(proxy: &ProxySettings) -> Option<postern_policy::Digest> {
    match &proxy.auth {
        Auth::Bearer(token) => Some(postern_policy::Digest::of(token.expose_secret().as_bytes())),
        Auth::None | Auth::Certificate { .. } => None,
    }
}
