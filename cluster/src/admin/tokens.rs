//! Join tokens: add, list, remove.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::request::TokenAdd;
use super::{Admin, Failure, invalid};
use crate::audit::{Event, code, rfc3339};
use crate::auth::Secret;
use crate::auth::join::token_name;
use crate::resource::Resource;
use crate::resource::token::TokenSpec;

impl Admin {
    pub(super) async fn token_add(&self, add: TokenAdd) -> Result<Value, Failure> {
        if add.uses == Some(0) || add.ttl_s == 0 {
            return Err(invalid("a token needs at least one use and one second"));
        }
        let secret = Secret::random("tjoin-");
        let expires = OffsetDateTime::now_utc() + Duration::from_secs(add.ttl_s);
        let spec = TokenSpec {
            r#type: add.r#type,
            labels: add.labels,
            uses_left: add.uses,
            secret_sha256: secret.sha256(),
        };
        let mut token = Resource::new(token_name(&secret), spec);
        token.metadata.expires = Some(expires);
        self.proxy.resources.create(&token).await?;
        self.proxy
            .audit
            .record(Event::new(code::TOKEN_CREATED).field("name", token.name()))
            .await;
        Ok(json!({
            "name": token.name(),
            "token": secret.expose(),
            "ca_pin": self.proxy.authorities.pin().to_string(),
            "expires": rfc3339(expires),
            "cluster": self.public_addr,
        }))
    }

    pub(super) async fn token_list(&self) -> Result<Value, Failure> {
        let tokens = self.proxy.resources.list::<TokenSpec>().await?;
        let rows = tokens.iter().map(|token| {
            json!({
                "name": token.name(),
                "type": token.spec.r#type,
                "labels": token.spec.labels,
                "uses_left": token.spec.uses_left,
                "expires": token.metadata.expires.map(rfc3339),
            })
        });
        Ok(rows.collect())
    }

    pub(super) async fn token_remove(&self, name: &str) -> Result<Value, Failure> {
        self.proxy.resources.remove::<TokenSpec>(name).await?;
        self.proxy
            .audit
            .record(Event::new(code::TOKEN_REMOVED).field("name", name))
            .await;
        Ok(json!({ "name": name }))
    }
}
