//! The first join of a device that finds everything it needs in its configuration: it tries until
//! it works, since nobody may be there to try again by hand.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use protocol::backoff::Backoff;
use protocol::link::REFUSED_WAIT;
use protocol::message::control::Refusal;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::plan;
use super::{JoinError, command, join};
use crate::clock::{self, Monotonic, Span};
use crate::config::Config;
use crate::link::input::Input;
use crate::node::Node;
use crate::settings::process_env;
use crate::state::DataDir;
use crate::status::{LastLoss, LinkStatus, Status};

/// How far the tries of devices that see the same network come back are spread.
const SPREAD: Duration = Duration::from_millis(200);

/// Joins; `None` if the agent is asked to end before that.
pub(crate) async fn enrol(
    config: &Config,
    dir: &DataDir,
    queue: &mut mpsc::Receiver<Input>,
    monotonic: Monotonic,
) -> Option<Node> {
    let mut backoff = Backoff::new(crate::machine::seed());
    let mut last_loss = None;
    let network = Notify::new();
    loop {
        let status = |link| Status {
            uptime: Some(monotonic.now()),
            link,
            last_loss: last_loss.clone(),
            ..Status::of_stopped()
        };
        let attempt = attempt(config, dir, backoff.failures());
        let (reason, at_least) =
            match meanwhile(queue, &network, || status(LinkStatus::Joining), attempt).await? {
                Ok(node) => return Some(node),
                Err(error) => told(error),
            };
        let retry_in = backoff.next_delay(at_least);
        log::warn!(
            "joining the cluster failed: {reason}; next try in {}",
            Span(retry_in)
        );
        last_loss = Some(LastLoss {
            reason,
            time: clock::now(),
        });
        let until = monotonic.now().saturating_add(retry_in);
        let waiting = || Status {
            uptime: Some(monotonic.now()),
            link: LinkStatus::Waiting {
                retry_in: until.saturating_sub(monotonic.now()),
            },
            last_loss: last_loss.clone(),
            ..Status::of_stopped()
        };
        // Another network cannot help against a refusal.
        let change = async {
            network.notified().await;
            sleep(backoff.below(SPREAD)).await;
        };
        let wait = async {
            tokio::select! {
                () = sleep(retry_in) => {}
                () = change, if at_least.is_zero() => {}
            }
        };
        meanwhile(queue, &network, waiting, wait).await?;
    }
}

/// Why it did not work, and how long to wait at least.
fn told(error: anyhow::Result<JoinError>) -> (String, Duration) {
    match error {
        Ok(JoinError::Refused { reason, text }) => (text, patience(reason)),
        Ok(JoinError::Fault(fault)) => (fault.text, Duration::ZERO),
        Err(error) => (format!("{error:#}"), Duration::ZERO),
    }
}

/// Most refusals last until an operator lifts them.
const fn patience(reason: Refusal) -> Duration {
    match reason {
        Refusal::Busy | Refusal::Internal => Duration::ZERO,
        _ => REFUSED_WAIT,
    }
}

async fn attempt(
    config: &Config,
    dir: &DataDir,
    failures: u32,
) -> Result<Node, anyhow::Result<JoinError>> {
    let prepared = || -> anyhow::Result<_> {
        let plan =
            plan::configured(config, &process_env)?.context("the configuration is not complete")?;
        let key = command::key(dir)?;
        dir.check_writable()?;
        Ok((plan, key))
    };
    let (plan, key) = prepared().map_err(Err)?;
    let now = clock::now();
    let given = join(&plan, &key, now, failures).await.map_err(Ok)?;
    let time = given.time.as_secs();
    let mut node = Node::new(dir.clone(), key, given);
    node.learn_time(time);
    node.save();
    Ok(node)
}

/// Works, answers questions meanwhile, and passes on that there is another network; `None` if the
/// agent is asked to end.
async fn meanwhile<T>(
    queue: &mut mpsc::Receiver<Input>,
    network: &Notify,
    status: impl Fn() -> Status,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            input = queue.recv() => match input {
                Some(Input::Query(query)) => query.answer(&status()),
                Some(Input::Network(now)) if now.local.is_some() => network.notify_one(),
                Some(Input::Stop) | None => return None,
                Some(_) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::network::tests::cellular;
    use tokio::time::timeout;

    #[tokio::test]
    async fn being_asked_to_end_ends_the_wait() {
        let (inputs, mut queue) = mpsc::channel(1);
        inputs.send(Input::Stop).await.unwrap();
        let forever = std::future::pending::<()>();
        let network = Notify::new();
        assert!(
            meanwhile(&mut queue, &network, Status::of_stopped, forever)
                .await
                .is_none()
        );
        assert_eq!(
            meanwhile(&mut queue, &network, Status::of_stopped, async { 7 }).await,
            Some(7)
        );
    }

    #[tokio::test]
    async fn another_network_is_passed_on() {
        let (inputs, mut queue) = mpsc::channel(2);
        let network = Notify::new();
        inputs
            .send(Input::Network(Network::default()))
            .await
            .unwrap();
        inputs.send(Input::Network(cellular())).await.unwrap();
        let noticed = network.notified();
        let done = meanwhile(&mut queue, &network, Status::of_stopped, noticed).await;
        assert!(done.is_some());
        // Nothing is left of the first, which was none.
        assert!(queue.try_recv().is_err());
        assert!(timeout(Duration::ZERO, network.notified()).await.is_err());
    }

    #[tokio::test]
    async fn a_missing_token_file_is_a_reason_to_wait_not_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            cluster: Some("127.0.0.1:1".parse().unwrap()),
            ca_pin: Some(protocol::identity::CaPin([1; 32])),
            token_file: Some("/nonexistent/token".into()),
            node_name: Some("gateway-1".into()),
            ..Config::default()
        };
        let dir = DataDir::new(folder.path().into());
        let tried = attempt(&config, &dir, 0).await;
        let (reason, _) = told(tried.err().unwrap());
        assert!(reason.contains("/nonexistent/token"), "{reason}");
    }

    #[test]
    fn refusals_that_need_an_operator_wait_longer() {
        assert_eq!(patience(Refusal::Busy), Duration::ZERO);
        assert_eq!(patience(Refusal::Token), REFUSED_WAIT);
    }
}
