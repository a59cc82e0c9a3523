//! What commands need that act as a user: a login that is still good.

use anyhow::Result;
use time::OffsetDateTime;

use super::credentials::Source;
use super::prompt::Prompt;
use super::{Login, chosen_proxy};
use crate::address::ProxyAddr;
use crate::cli::Global;
use crate::error::{Exit, fail};
use crate::output;
use crate::profile::{Entry, Home, Identity, Profile, Trusted};

/// A user with valid certificates.
#[derive(Debug, Clone)]
pub(crate) struct LoggedIn {
    pub(crate) profile: Profile,
    pub(crate) identity: Identity,
    pub(crate) trusted: Trusted,
}

impl LoggedIn {
    /// OS users the user may become.
    pub(crate) fn logins(&self) -> &[String] {
        let session = self.profile.session.as_ref();
        session.map_or(&[], |session| &session.logins)
    }

    /// The same user's login as it is stored by now, if somebody has logged in again since.
    pub(crate) fn renewed(&self) -> Option<Self> {
        let entry = Home::from_env().ok()?.entry(&self.profile.proxy);
        let stored = entry.profile().ok()??;
        self.is_renewed_by(&stored)
            .then(|| Self::load(&entry, stored).ok())?
    }

    fn is_renewed_by(&self, stored: &Profile) -> bool {
        let expires = |profile: &Profile| profile.session.as_ref().map(|session| session.expires);
        let whose = |profile: &Profile| (profile.user.clone(), profile.cluster.clone());
        whose(stored) == whose(&self.profile) && expires(stored) > expires(&self.profile)
    }

    fn load(entry: &Entry, profile: Profile) -> Result<Self> {
        let trusted = entry.trusted()?;
        Ok(Self {
            identity: entry.identity()?,
            trusted: trusted.ok_or_else(|| logged_out(&profile.proxy))?,
            profile,
        })
    }
}

/// The login at the chosen proxy. Where there is none, or an expired one, and a user at a
/// terminal, the user may log in on the spot.
pub(crate) async fn require(global: &Global) -> Result<LoggedIn> {
    let home = Home::from_env()?;
    let proxy = chosen_proxy(&home, global).map_err(|error| {
        // To those who only want to use the cluster, no cluster is no login.
        fail(Exit::LoggedOut, error.to_string())
    })?;
    let entry = home.entry(&proxy);
    let profile = entry.profile()?;
    let Some(lack) = lack(profile.as_ref(), global, &proxy, OffsetDateTime::now_utc()) else {
        return LoggedIn::load(&entry, profile.ok_or_else(|| logged_out(&proxy))?);
    };
    if Prompt::open().is_none() {
        return Err(fail(
            Exit::LoggedOut,
            format!("{lack} Run: tsh login --proxy {proxy}"),
        ));
    }
    output::note(&lack);
    let login = Login::again(&home, proxy, global.user.clone())?;
    let profile = login.perform(&Source::default()).await?;
    LoggedIn::load(&entry, profile)
}

/// What is wrong with the login that is stored, in a sentence.
fn lack(
    profile: Option<&Profile>,
    global: &Global,
    proxy: &ProxyAddr,
    now: OffsetDateTime,
) -> Option<String> {
    let out = || Some(format!("You are not logged in to {proxy}."));
    let Some(profile) = profile else { return out() };
    let Some(session) = &profile.session else {
        return out();
    };
    if let Some(user) = global.user.as_ref().filter(|user| **user != profile.user) {
        return Some(format!(
            "You are logged in to {proxy} as {}, not as {user}.",
            profile.user
        ));
    }
    if !session.is_valid(now) {
        let ago = output::age::ago(session.expires, now);
        return Some(format!(
            "Your certificate for {} expired {ago}.",
            profile.cluster
        ));
    }
    None
}

fn logged_out(proxy: &ProxyAddr) -> anyhow::Error {
    let sentence = format!("You are not logged in to {proxy}. Run: tsh login --proxy {proxy}");
    fail(Exit::LoggedOut, sentence)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::profile::Session;

    fn global(user: Option<&str>) -> Global {
        Global {
            proxy: None,
            user: user.map(str::to_owned),
            debug: false,
        }
    }

    fn lack_of(session: Option<Session>, user: Option<&str>) -> Option<String> {
        let profile = Profile {
            proxy: "h".parse().unwrap(),
            cluster: "lab".into(),
            user: "ann".into(),
            trust_serial: 1,
            session,
        };
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        lack(Some(&profile), &global(user), &profile.proxy, now)
    }

    fn session(expires_s: u64) -> Session {
        Session {
            roles: vec![],
            logins: vec![],
            expires: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(expires_s),
        }
    }

    #[test]
    fn a_valid_login_lacks_nothing() {
        assert_eq!(lack_of(Some(session(1_000_060)), None), None);
        assert_eq!(lack_of(Some(session(1_000_060)), Some("ann")), None);
    }

    #[test]
    fn an_expired_login_says_since_when() {
        let lack = lack_of(Some(session(1_000_000 - 7_200)), None).unwrap();
        assert!(lack.contains("expired 2 h ago"), "{lack}");
    }

    #[test]
    fn a_certificate_about_to_expire_is_not_used() {
        assert!(lack_of(Some(session(1_000_001)), None).is_some());
    }

    #[test]
    fn another_user_or_a_logout_is_no_login() {
        let lack = lack_of(Some(session(1_000_060)), Some("bob")).unwrap();
        assert!(lack.contains("as ann, not as bob"), "{lack}");
        assert!(lack_of(None, None).unwrap().contains("not logged in"));
    }
}
