//! Logging in: from a password or an invite to short-lived certificates.
//!
//! 1. Trust is settled with a request that says nothing about the user; an unknown cluster is
//!    asked about here.
//! 2. The secret is read, from files or from the terminal.
//! 3. A new key is made; its public half goes to the cluster together with the secret.
//! 4. What comes back is checked (it must certify this key, and be of the CA that was trusted),
//!    stored, and loaded into ssh-agent.

use anyhow::{Context, Result};
use protocol::identity::CaPin;
use time::OffsetDateTime;

use crate::address::ProxyAddr;
use crate::api::Client;
use crate::api::types::{LoginAnswer, LoginRequest};
use crate::cli::{Global, LoginArgs};
use crate::error::{Exit, Failure, fail};
use crate::profile::identity::NewKey;
use crate::profile::{Home, Identity, Profile, Session, Trusted};
use crate::{agent_keys, output, status};

pub(crate) mod credentials;
pub(crate) mod prompt;
pub(crate) mod required;
pub(crate) mod secret;
mod settle;

pub(crate) use required::{LoggedIn, require};

use credentials::{Credentials, Source};

/// A login about to be made.
#[derive(Debug)]
struct Login<'a> {
    home: &'a Home,
    proxy: ProxyAddr,
    user: String,
    /// Pins that the server must match; none if the cluster is not known yet.
    pins: Vec<CaPin>,
    ttl_s: Option<u64>,
    agent: agent_keys::Use,
}

/// `tsh login`
pub(crate) async fn run(global: &Global, args: &LoginArgs) -> Result<()> {
    let source = Source::new(args)?;
    let home = Home::from_env()?;
    let login = Login::new(&home, global, args)?;
    let profile = login.perform(&source).await?;
    output::result(&status::describe(&profile, OffsetDateTime::now_utc()));
    Ok(())
}

impl<'a> Login<'a> {
    fn new(home: &'a Home, global: &Global, args: &LoginArgs) -> Result<Self> {
        let proxy = chosen_proxy(home, global)?;
        let mut login = Self::again(home, proxy, global.user.clone())?;
        if let Some(pin) = args.ca_pin {
            login.pins = vec![pin];
        }
        login.ttl_s = args.ttl.map(|ttl| ttl.as_secs());
        login.agent = agent_keys::Use::unless(args.no_agent);
        Ok(login)
    }

    /// A login with what is remembered from the last one.
    fn again(home: &'a Home, proxy: ProxyAddr, user: Option<String>) -> Result<Self> {
        let entry = home.entry(&proxy);
        let remembered = entry.profile()?.map(|profile| profile.user);
        let user = user.or(remembered).ok_or_else(|| {
            let sentence = format!("Who are you? Run: tsh login --proxy {proxy} --user NAME");
            fail(Exit::Usage, sentence)
        })?;
        let trusted = entry.trusted()?;
        Ok(Self {
            home,
            proxy,
            user,
            pins: trusted.map_or(Ok(Vec::new()), |trusted| trusted.pins())?,
            ttl_s: None,
            agent: agent_keys::Use::from_env(),
        })
    }

    async fn perform(mut self, source: &Source) -> Result<Profile> {
        let settled = settle::trust(&self.proxy, &self.pins).await?;
        self.pins = vec![settled.pin];
        let credentials = source.read(&self.user, &settled.cluster)?;
        let key = NewKey::generate(&self.user)?;
        let answer = self.ask(&settled.client, &credentials, &key).await?;
        drop(credentials);
        self.accept(key, &answer).await
    }

    async fn ask(
        &self,
        client: &Client,
        credentials: &Credentials,
        key: &NewKey,
    ) -> Result<LoginAnswer> {
        let public_key = key.public_base64()?;
        let request = LoginRequest {
            user: &self.user,
            invite: credentials.invite(),
            password: credentials.password(),
            public_key: &public_key,
            ttl_s: self.ttl_s,
        };
        client.post(credentials.path(), &request).await
    }

    async fn accept(&self, key: NewKey, answer: &LoginAnswer) -> Result<Profile> {
        let senseless = || Failure::new(Exit::Other, "The cluster's answer to the login is wrong");
        if !is_name(&answer.cluster) || !is_name(&answer.user) {
            return Err(senseless().into());
        }
        let identity = key
            .certified(&answer.ssh_certificate, &answer.x509_certificate)
            .context(senseless())?;
        let bundle = &answer.trust;
        let trusted =
            Trusted::new(&bundle.host_ca_x509, &bundle.host_ca_ssh).context(senseless())?;
        let told = trusted.pins()?;
        if !told.iter().any(|pin| self.pins.contains(pin)) {
            return Err(self.two_faced());
        }
        let profile = self.profile(answer);
        self.store(&profile, &trusted, &identity).await?;
        Ok(profile)
    }

    /// The server that was trusted names another CA than before. This cannot happen to a cluster.
    fn two_faced(&self) -> anyhow::Error {
        fail(
            Exit::Untrusted,
            format!(
                "{} names one CA before a login and another one after it. This is not your \
                 cluster, and it has seen your password: change it, and tell your administrator.",
                self.proxy
            ),
        )
    }

    fn profile(&self, answer: &LoginAnswer) -> Profile {
        Profile {
            proxy: self.proxy.clone(),
            cluster: answer.cluster.clone(),
            user: answer.user.clone(),
            trust_serial: answer.trust.serial,
            session: Some(Session {
                roles: answer.roles.clone(),
                logins: answer.logins.clone(),
                expires: answer.expires,
            }),
        }
    }

    async fn store(&self, profile: &Profile, trusted: &Trusted, identity: &Identity) -> Result<()> {
        let entry = self.home.entry(&self.proxy);
        // While the old public key is still there to name the old key.
        agent_keys::unload(self.agent, &entry).await;
        entry.store(profile, trusted, identity)?;
        self.home.set_current(&self.proxy)?;
        agent_keys::load(self.agent, &entry, profile).await;
        Ok(())
    }
}

/// Whether a name can stand in file names and in OpenSSH's configuration as it is.
fn is_name(text: &str) -> bool {
    let harmless = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    !text.is_empty() && !text.starts_with('-') && text.chars().all(harmless)
}

/// The proxy that was named, or else the one last logged in to.
pub(crate) fn chosen_proxy(home: &Home, global: &Global) -> Result<ProxyAddr> {
    if let Some(proxy) = &global.proxy {
        return Ok(proxy.clone());
    }
    home.current()?.ok_or_else(|| {
        let sentence = "Which cluster? Run: tsh login --proxy HOST:PORT --user NAME";
        fail(Exit::Usage, sentence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_a_configuration_are_refused() {
        assert!(is_name("lab") && is_name("ann.lee@example.com") && is_name("zürich-1"));
        for wrong in [
            "",
            "-lab",
            "lab\nProxyCommand x",
            "a b",
            "a*",
            "%h",
            "\"x\"",
        ] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }
}
