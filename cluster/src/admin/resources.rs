//! Resources of any kind: get, create, remove.

use serde_json::{Value, json};

use super::{Admin, Failure, invalid};
use crate::audit::{Event, code};
use crate::resource::lock::LockSpec;
use crate::resource::node::{NodeSpec, PresenceSpec};
use crate::resource::role::RoleSpec;
use crate::resource::token::TokenSpec;
use crate::resource::user::UserSpec;
use crate::resource::{Resource, Resources, Spec};

/// Kinds that can be read.
const KINDS: &str = "role, user, node, presence, token or lock";

impl Admin {
    pub(super) async fn get(&self, kind: &str, name: Option<&str>) -> Result<Value, Failure> {
        let resources = &self.proxy.resources;
        match singular(kind) {
            "role" => read::<RoleSpec>(resources, name).await,
            "user" => read::<UserSpec>(resources, name).await,
            "node" => read::<NodeSpec>(resources, name).await,
            "presence" => read::<PresenceSpec>(resources, name).await,
            "token" => read::<TokenSpec>(resources, name).await,
            "lock" => read::<LockSpec>(resources, name).await,
            _ => Err(invalid(format!(
                "there is no kind {kind:?}: expected {KINDS}"
            ))),
        }
    }

    pub(super) async fn create(&self, resource: Value, force: bool) -> Result<Value, Failure> {
        let resources = &self.proxy.resources;
        let kind = resource
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let name = match kind.as_str() {
            "role" => write::<RoleSpec>(resources, resource, force).await?,
            "user" => {
                let known = match force {
                    true => known_user(resources, &resource).await?,
                    false => None,
                };
                let id = known.unwrap_or_else(UserSpec::new_id);
                write_with::<UserSpec>(resources, resource, force, |spec| spec.id = id).await?
            }
            "lock" => {
                let name = write::<LockSpec>(resources, resource, force).await?;
                self.lock_written(&resources.get(&name).await?).await;
                name
            }
            _ => {
                let text = format!(
                    "a {kind:?} cannot be created from a file: expected role, user or lock"
                );
                return Err(invalid(text));
            }
        };
        let event = Event::new(code::RESOURCE_WRITTEN).field("kind", kind.as_str());
        self.proxy
            .audit
            .record(event.field("name", name.as_str()))
            .await;
        Ok(json!({ "kind": kind, "name": name }))
    }

    pub(super) async fn remove(&self, kind: &str, name: &str) -> Result<Value, Failure> {
        match singular(kind) {
            "user" => return self.user_remove(name).await,
            "node" => return self.node_remove(name).await,
            "token" => return self.token_remove(name).await,
            "lock" => return self.lock_remove(name).await,
            "role" => self.proxy.resources.remove::<RoleSpec>(name).await?,
            _ => {
                return Err(invalid(format!(
                    "there is no kind {kind:?}: expected role, user, node, token or lock"
                )));
            }
        }
        let event = Event::new(code::RESOURCE_REMOVED).field("kind", "role");
        self.proxy.audit.record(event.field("name", name)).await;
        Ok(json!({ "kind": "role", "name": name }))
    }
}

async fn read<S: Spec>(resources: &Resources, name: Option<&str>) -> Result<Value, Failure> {
    let found = match name {
        Some(name) => vec![resources.get::<S>(name).await?],
        None => resources.list::<S>().await?,
    };
    serde_json::to_value(found).map_err(|e| anyhow::Error::from(e).into())
}

/// The id of the user that is to be written anew: it is the same person, and keeps certificates.
async fn known_user(resources: &Resources, value: &Value) -> Result<Option<u64>, Failure> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str);
    let known = resources.find::<UserSpec>(name.unwrap_or_default()).await?;
    Ok(known.map(|user| user.spec.id))
}

async fn write<S: Spec>(
    resources: &Resources,
    value: Value,
    force: bool,
) -> Result<String, Failure> {
    write_with::<S>(resources, value, force, |_| {}).await
}

async fn write_with<S: Spec>(
    resources: &Resources,
    value: Value,
    force: bool,
    set: impl FnOnce(&mut S),
) -> Result<String, Failure> {
    let mut resource: Resource<S> =
        serde_json::from_value(value).map_err(|e| invalid(format!("{}: {e}", S::KIND)))?;
    set(&mut resource.spec);
    match force {
        true => resources.put(&resource).await?,
        false => resources.create(&resource).await?,
    };
    Ok(resource.metadata.name)
}

fn singular(kind: &str) -> &str {
    kind.strip_suffix('s').unwrap_or(kind)
}
