//! `tether-agent join`.

use std::time::Duration;

use anyhow::{Context, anyhow};
use protocol::clock::Clock;
use protocol::message::control::Refusal;

use super::plan::{self, Plan};
use super::{JoinError, join};
use crate::cli::{self, Again};
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::link::transport::{Fault, FaultKind};
use crate::output;
use crate::settings::{self, process_env};
use crate::state::DataDir;
use crate::state::key::DeviceKey;
use crate::state::membership::Membership;

/// Runs the command.
pub(crate) fn run(typed: cli::Join) -> Result<Exit, Failure> {
    let settings = settings::load(&typed.common, &process_env)?;
    crate::logger::start(settings.log_level);
    let again = typed.again;
    let plan = plan::typed(typed, &settings.config, &process_env)?;
    let dir = DataDir::new(settings.data_dir);
    dir.create()?;
    let _lock = dir.lock(None)?;
    let floor = refuse_if_joined(&dir, again)?;
    let key = key(&dir)?;
    dir.check_writable()?;
    clock::follow(&Clock::new(clock::BUILT.max(floor)));
    let given = ask(&plan, &key, clock::now())?;
    dir.store_membership(&given)
        .context("the cluster accepted this device, but that cannot be kept; join again")?;
    output::print(&report(&given, &dir));
    Ok(Exit::Ok)
}

/// Gives the newest time that is known from before.
fn refuse_if_joined(dir: &DataDir, again: Again) -> Result<Duration, Failure> {
    match (dir.membership(), again) {
        (Ok(None), _) | (Err(_), Again::Force) => Ok(Duration::ZERO),
        (Ok(Some(old)), Again::Force) => Ok(old.time),
        (Ok(Some(old)), Again::Refuse) => Err(anyhow!(
            "this device is already {} in the cluster {}; add --force to join anew",
            old.node_name,
            old.cluster
        )
        .into()),
        (Err(error), Again::Refuse) => Err(error.context("add --force to join anew").into()),
    }
}

/// The device's key; a new device makes one. A damaged one is not replaced, since a cluster may
/// know it.
pub(super) fn key(dir: &DataDir) -> anyhow::Result<DeviceKey> {
    if let Some(key) = dir.key()? {
        return Ok(key);
    }
    let key = DeviceKey::generate()?;
    dir.store_key(&key)?;
    Ok(key)
}

fn ask(plan: &Plan, key: &DeviceKey, now: Duration) -> Result<Membership, Failure> {
    let runtime = crate::runtime().map_err(anyhow::Error::from)?;
    let given = runtime.block_on(join(plan, key, now, 0));
    // A resolver that hangs must not keep the process.
    runtime.shutdown_background();
    given.map_err(|error| failure(error, plan))
}

fn failure(error: JoinError, plan: &Plan) -> Failure {
    match error {
        JoinError::Refused { reason, text } => {
            let hint = hint(reason);
            Failure::new(Exit::Refused, anyhow!("the cluster refused: {text}{hint}"))
        }
        JoinError::Fault(fault) => {
            let exit = exit(&fault);
            let address = &plan.route.address;
            let text = format!("joining the cluster at {address} failed: {fault}");
            Failure::new(exit, anyhow!(text))
        }
    }
}

const fn hint(reason: Refusal) -> &'static str {
    match reason {
        Refusal::Token => "\nAsk the cluster's administrator for a new join token.",
        Refusal::Version => "\nThis agent and the cluster are too far apart; update the older one.",
        Refusal::Busy | Refusal::Internal => "\nTry again in a while.",
        _ => "",
    }
}

fn exit(fault: &Fault) -> Exit {
    match fault.kind {
        FaultKind::Untrusted => Exit::Untrusted,
        FaultKind::Unreachable | FaultKind::Closed(_) => Exit::Unreachable,
        FaultKind::CertificateRefused => Exit::Refused,
        FaultKind::Misbehaved | FaultKind::Local => Exit::Failed,
    }
}

fn report(given: &Membership, dir: &DataDir) -> String {
    format!(
        "Joined the cluster {} as {} ({}).\n\
         Key and certificates are in {}; the certificates are valid until {}.\n\
         \n\
         Next, hold the link: tether-agent start --data-dir {}\n",
        given.cluster,
        given.node_name,
        given.node_id,
        dir.path().display(),
        clock::Utc(given.certificates.not_after),
        dir.path().display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::membership::tests::sample;

    fn folder() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::new(folder.path().into());
        (folder, dir)
    }

    #[test]
    fn a_node_does_not_join_again_unless_forced() {
        let (_folder, dir) = folder();
        assert_eq!(
            refuse_if_joined(&dir, Again::Refuse).unwrap(),
            Duration::ZERO
        );
        dir.store_membership(&sample()).unwrap();
        let failure = refuse_if_joined(&dir, Again::Refuse).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(
            failure
                .error
                .to_string()
                .contains("already gateway-1 in the cluster lab")
        );
        assert_eq!(refuse_if_joined(&dir, Again::Force).unwrap(), sample().time);
    }

    #[test]
    fn a_damaged_state_is_replaced_only_by_force() {
        let (folder, dir) = folder();
        std::fs::write(folder.path().join("node.state"), b"torn").unwrap();
        assert!(refuse_if_joined(&dir, Again::Refuse).is_err());
        assert!(refuse_if_joined(&dir, Again::Force).is_ok());
    }

    #[test]
    fn the_key_is_made_once() {
        let (_folder, dir) = folder();
        let first = key(&dir).unwrap().public();
        assert_eq!(key(&dir).unwrap().public(), first);
    }

    #[test]
    fn exit_codes_tell_failures_apart() {
        for (kind, expected) in [
            (FaultKind::Untrusted, Exit::Untrusted),
            (FaultKind::Unreachable, Exit::Unreachable),
            (FaultKind::Closed(None), Exit::Unreachable),
            (FaultKind::Local, Exit::Failed),
        ] {
            assert_eq!(exit(&Fault::new(kind, "x")), expected);
        }
    }
}
