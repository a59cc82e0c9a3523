//! Users: add, update, reset, remove, list.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::request::{UserAdd, UserUpdate};
use super::{Admin, Failure, invalid};
use crate::audit::{Event, code, rfc3339};
use crate::auth::Secret;
use crate::auth::credential::{Credential, INVITE_TTL, Invite, check_password};
use crate::resource::Resource;
use crate::resource::role::RoleSpec;
use crate::resource::user::{Traits, UserSpec};

impl Admin {
    pub(super) async fn user_add(&self, add: UserAdd) -> Result<Value, Failure> {
        self.roles_exist(&add.roles).await?;
        let password = add.password.as_ref().map(|p| Secret::new(p.0.clone()));
        if let Some(password) = &password {
            check_password(password).map_err(invalid)?;
        }
        let traits = Traits { logins: add.logins };
        let user = Resource::new(
            add.name,
            UserSpec {
                id: UserSpec::new_id(),
                roles: add.roles,
                traits,
            },
        );
        self.proxy.resources.create(&user).await?;
        // A credential left by a removed user of this name must not open the new one's door.
        self.proxy.login.credentials.remove(user.name()).await?;
        let invite = self
            .set_credential(user.name(), password, add.ttl_s)
            .await?;
        let event = Event::new(code::USER_CREATED).field("name", user.name());
        self.proxy
            .audit
            .record(event.field("roles", json!(user.spec.roles)))
            .await;
        Ok(self.user_view(&user, invite))
    }

    pub(super) async fn user_update(&self, update: UserUpdate) -> Result<Value, Failure> {
        let mut user = self.proxy.resources.get::<UserSpec>(&update.name).await?;
        if let Some(roles) = update.roles {
            self.roles_exist(&roles).await?;
            user.spec.roles = roles;
        }
        if let Some(logins) = update.logins {
            user.spec.traits.logins = logins;
        }
        self.proxy.resources.put(&user).await?;
        self.proxy
            .audit
            .record(Event::new(code::USER_UPDATED).field("name", user.name()))
            .await;
        Ok(self.user_view(&user, None))
    }

    pub(super) async fn user_reset(&self, name: &str, ttl: Option<u64>) -> Result<Value, Failure> {
        let user = self.proxy.resources.get::<UserSpec>(name).await?;
        self.proxy.login.credentials.remove(name).await?;
        let invite = self.set_credential(name, None, ttl).await?;
        self.proxy
            .audit
            .record(Event::new(code::USER_RESET).field("name", name))
            .await;
        Ok(self.user_view(&user, invite))
    }

    pub(super) async fn user_remove(&self, name: &str) -> Result<Value, Failure> {
        self.proxy.resources.remove::<UserSpec>(name).await?;
        self.proxy.login.credentials.remove(name).await?;
        self.proxy.end_user(name);
        self.proxy
            .audit
            .record(Event::new(code::USER_REMOVED).field("name", name))
            .await;
        Ok(json!({ "name": name }))
    }

    pub(super) async fn user_list(&self) -> Result<Value, Failure> {
        let mut rows = Vec::new();
        for user in self.proxy.resources.list::<UserSpec>().await? {
            let (credential, _) = self.proxy.login.credentials.get(user.name()).await?;
            let mut row = self.user_view(&user, None);
            let state = match (&credential.password, &credential.invite) {
                _ if self.proxy.login.credentials.locked_out(user.name()).await? => "locked out",
                (Some(_), _) => "active",
                (None, Some(i)) if i.expires > OffsetDateTime::now_utc() => "invited",
                (None, _) => "invite expired",
            };
            set(&mut row, "state", state);
            rows.push(row);
        }
        Ok(rows.into())
    }

    async fn set_credential(
        &self,
        name: &str,
        password: Option<Secret>,
        ttl_s: Option<u64>,
    ) -> Result<Option<(Secret, OffsetDateTime)>, Failure> {
        let credentials = &self.proxy.login.credentials;
        let mut credential = Credential::default();
        let mut shown = None;
        match password {
            Some(password) => credential.password = Some(credentials.hash(password).await?),
            None => {
                let ttl = ttl_s.map_or(INVITE_TTL, Duration::from_secs);
                let expires = OffsetDateTime::now_utc() + ttl;
                let code = Secret::random("tinv-");
                credential.invite = Some(Invite {
                    sha256: code.sha256(),
                    expires,
                });
                shown = Some((code, expires));
            }
        }
        credentials.put(name, &credential, None).await?;
        Ok(shown)
    }

    fn user_view(
        &self,
        user: &Resource<UserSpec>,
        invite: Option<(Secret, OffsetDateTime)>,
    ) -> Value {
        let mut view = json!({
            "name": user.name(),
            "roles": user.spec.roles,
            "logins": user.spec.traits.logins,
        });
        if let Some((code, expires)) = invite {
            set(&mut view, "invite", code.expose());
            set(&mut view, "expires", rfc3339(expires));
            set(&mut view, "proxy", self.public_addr.as_str());
            set(
                &mut view,
                "ca_pin",
                self.proxy.authorities.pin().to_string(),
            );
        }
        view
    }

    async fn roles_exist(&self, roles: &[String]) -> Result<(), Failure> {
        for role in roles {
            if self.proxy.resources.find::<RoleSpec>(role).await?.is_none() {
                return Err(Failure {
                    code: "not_found",
                    text: format!("there is no role {role:?}; see `tctl get roles`"),
                });
            }
        }
        Ok(())
    }
}

fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = object {
        fields.insert(field.to_owned(), value.into());
    }
}
