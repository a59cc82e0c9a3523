//! What a join needs, gathered from the command line, the environment and the configuration.

use std::path::Path;

use protocol::identity::CaPin;

use crate::cli;
use crate::config::Config;
use crate::exit::Failure;
use crate::link::connect::Route;
use crate::machine;
use crate::settings::Env;
use crate::token::Token;

/// Everything there is to know before a cluster is asked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) route: Route,
    pub(crate) token: Token,
    pub(crate) ca_pin: CaPin,
    pub(crate) node_name: String,
}

/// For `join`: what is typed outweighs what is configured. All that is missing is said at once.
pub(crate) fn typed(typed: cli::Join, config: &Config, env: Env<'_>) -> Result<Plan, Failure> {
    let token = token(&typed, config, env)?;
    let cluster = typed.cluster.or_else(|| config.cluster.clone());
    let ca_pin = typed.ca_pin.or(config.ca_pin);
    let node_name = typed.node_name.or_else(|| config.node_name.clone());
    let (Some(cluster), Some(token), Some(ca_pin)) = (&cluster, &token, ca_pin) else {
        let missing = [
            (cluster.is_none(), "--cluster HOST:PORT"),
            (token.is_none(), "--token-file FILE (or TETHER_TOKEN)"),
            (ca_pin.is_none(), "--ca-pin sha256:..."),
        ];
        let missing: Vec<_> = missing
            .iter()
            .filter(|(no, _)| *no)
            .map(|(_, name)| *name)
            .collect();
        return Err(Failure::usage(format!(
            "missing: {}\nTry: {}",
            missing.join(", "),
            cli::help::Topic::Join.invocation()
        )));
    };
    Ok(Plan {
        route: Route::new(cluster.clone(), config, env),
        token: token.clone(),
        ca_pin,
        node_name: name(node_name)?,
    })
}

/// For `start`: whether the configuration has all that a first join needs.
pub(crate) fn is_configured(config: &Config) -> bool {
    config.cluster.is_some() && config.ca_pin.is_some() && config.token_file.is_some()
}

/// For `start`: the configuration alone. The token is read anew for each try, so that it can be
/// put right while the agent runs.
pub(crate) fn configured(config: &Config, env: Env<'_>) -> anyhow::Result<Option<Plan>> {
    let (Some(cluster), Some(ca_pin), Some(token_file)) =
        (&config.cluster, config.ca_pin, &config.token_file)
    else {
        return Ok(None);
    };
    Ok(Some(Plan {
        route: Route::new(cluster.clone(), config, env),
        token: Token::read(token_file)?,
        ca_pin,
        node_name: name(config.node_name.clone()).map_err(|failure| failure.error)?,
    }))
}

fn token(typed: &cli::Join, config: &Config, env: Env<'_>) -> Result<Option<Token>, Failure> {
    let given = typed.token.clone().or_else(|| {
        let from_env = env("TETHER_TOKEN").filter(|_| typed.token_file.is_none());
        from_env.map(|text| Token::new(text.to_string_lossy().into_owned()))
    });
    let token = match (
        given,
        typed.token_file.as_deref().or(config.token_file.as_deref()),
    ) {
        (Some(token), _) => token.check().map(|()| Some(token)),
        (None, Some(path)) => read(path).map(Some),
        (None, None) => Ok(None),
    };
    token.map_err(|error| Failure::new(crate::exit::Exit::Usage, error))
}

fn read(path: &Path) -> anyhow::Result<Token> {
    Token::read(path)
}

/// The node's name: as chosen, or the machine's.
fn name(chosen: Option<String>) -> Result<String, Failure> {
    let name = chosen.unwrap_or_else(|| machine::Machine::look().hostname);
    match machine::check_node_name(&name) {
        Ok(()) => Ok(name),
        Err(wanted) => Err(Failure::usage(format!(
            "the host name {name:?} cannot be a node's name: {wanted}; choose one with --node-name"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Env<'static> = &|_| None;

    fn complete() -> cli::Join {
        cli::Join {
            cluster: Some("lab:3080".parse().unwrap()),
            token: Some(Token::new("typed".into())),
            ca_pin: Some(CaPin([1; 32])),
            node_name: Some("gateway-1".into()),
            ..cli::Join::default()
        }
    }

    #[test]
    fn what_is_missing_is_said_at_once() {
        let failure = typed(cli::Join::default(), &Config::default(), NOTHING).unwrap_err();
        let text = failure.error.to_string();
        for option in ["--cluster", "--token-file", "--ca-pin"] {
            assert!(text.contains(option), "{text}");
        }
        assert_eq!(failure.exit, crate::exit::Exit::Usage);
    }

    #[test]
    fn what_is_typed_outweighs_what_is_configured() {
        let config = Config {
            cluster: Some("other:1".parse().unwrap()),
            ca_pin: Some(CaPin([2; 32])),
            token_file: Some("/nonexistent".into()),
            node_name: Some("other".into()),
            ..Config::default()
        };
        let plan = typed(complete(), &config, NOTHING).unwrap();
        assert_eq!(plan.route.address.to_string(), "lab:3080");
        assert_eq!(plan.token.expose(), "typed");
        assert_eq!(plan.ca_pin, CaPin([1; 32]));
        assert_eq!(plan.node_name, "gateway-1");
    }

    #[test]
    fn the_environment_can_hold_the_token() {
        let env = |name: &str| (name == "TETHER_TOKEN").then(|| "from env".into());
        let join = cli::Join {
            token: None,
            ..complete()
        };
        assert_eq!(
            typed(join, &Config::default(), &env)
                .unwrap()
                .token
                .expose(),
            "from env"
        );
    }

    #[test]
    fn a_token_file_that_cannot_be_read_is_named() {
        let join = cli::Join {
            token: None,
            token_file: Some("/nonexistent/token".into()),
            ..complete()
        };
        let error = typed(join, &Config::default(), NOTHING).unwrap_err().error;
        assert!(format!("{error:#}").contains("/nonexistent/token"));
    }
}
