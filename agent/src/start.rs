//! `tether-agent start`.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::address::Address;
use crate::cli::{self, Mode};
use crate::clock::Monotonic;
use crate::config::{Config, resume};
use crate::exit::{Exit, Failure};
use crate::handover::{self, Inherited, Program};
use crate::join::{enrol::enrol, plan};
use crate::labels;
use crate::link::connect::Route;
use crate::link::input::{Input, QUEUE};
use crate::link::keepers::Keepers;
use crate::link::{self, Runner};
use crate::logger;
use crate::machine::Machine;
use crate::network;
use crate::node::{self, Node};
use crate::output;
use crate::settings::{self, Settings, process_env};
use crate::state::key::DeviceKey;
use crate::state::membership::Membership;
use crate::state::{DataDir, Lock};
use crate::status::socket;

/// Runs the command.
pub(crate) fn run(typed: &cli::Start) -> Result<Exit, Failure> {
    // First of all: later their numbers would be those of others.
    let mut inherited = Inherited::take();
    let program = Program::of_this_process();
    let settings = settings::load(&typed.common, &process_env)?;
    logger::start(settings.log_level);
    let dir = DataDir::new(settings.data_dir.clone());
    let joined = check(&settings, &dir)?;
    if typed.mode == Mode::Check {
        output::line(&verdict(joined.as_ref().map(|(_, membership)| membership)));
        if handover::is_asked() {
            output::line(handover::ANSWER);
        }
        return Ok(Exit::Ok);
    }
    dir.create()?;
    let lock = dir.lock(inherited.lock.take())?;
    if dir.is_open_to_others() {
        log::warn!(
            "{} is open to other users; expected mode 0700",
            dir.path().display()
        );
    }
    let runtime = crate::runtime().context("the runtime cannot be started")?;
    let before = Before {
        program,
        lock,
        inherited,
    };
    let ended = runtime.block_on(hold(settings.config, dir, joined, before));
    // A resolver that hangs must not keep the process.
    runtime.shutdown_background();
    ended.map(|()| Exit::Ok).map_err(Failure::from)
}

/// Whether the agent can start at all; all that is wrong is said at once.
fn check(settings: &Settings, dir: &DataDir) -> Result<Option<(DeviceKey, Membership)>, Failure> {
    let shown = dir.path().display();
    match node::stored(dir) {
        Ok(Some((key, membership))) => match membership.address.parse::<Address>() {
            Ok(_) => Ok(Some((key, membership))),
            Err(error) => Err(Failure::usage(format!(
                "{shown}/node.state: address: {error}"
            ))),
        },
        Ok(None) if plan::is_configured(&settings.config) => Ok(None),
        Ok(None) => Err(Failure::usage(format!(
            "this device has not joined a cluster: there is no node.state in {shown}\n\
             Join one with: tether-agent join --cluster HOST:PORT --token-file FILE --ca-pin PIN\n\
             or set cluster, ca_pin and token_file in the configuration file."
        ))),
        Err(problems) => Err(Failure::usage(problems.join("\n"))),
    }
}

fn verdict(joined: Option<&Membership>) -> String {
    match joined {
        Some(membership) => format!(
            "Configuration and state are fine: {} in the cluster {}.",
            membership.node_name, membership.cluster
        ),
        None => "The configuration is fine; the agent joins when it starts.".to_owned(),
    }
}

/// What there is before anything runs.
struct Before {
    program: Program,
    lock: Lock,
    inherited: Inherited,
}

async fn hold(
    config: Config,
    dir: DataDir,
    joined: Option<(DeviceKey, Membership)>,
    before: Before,
) -> anyhow::Result<()> {
    let monotonic = Monotonic::start();
    let (inputs, mut queue) = mpsc::channel(QUEUE);
    listen(&inputs)?;
    let mut services: Vec<_> = serve_status(&dir, &inputs).into_iter().collect();
    let keepers = Keepers::meet(before.inherited).await;
    let machine = Machine::look();
    greet(&machine);
    let (towards, seen) = watch::channel(config.cluster.as_ref().and_then(Address::literal));
    services.push(service(network::watch(seen, inputs.clone())));
    let node = match joined {
        Some((key, membership)) => Node::new(dir, key, membership),
        None => match enrol(&config, &dir, &mut queue, monotonic).await {
            Some(node) => node,
            None => return Ok(()),
        },
    };
    let Membership {
        node_name,
        cluster,
        address,
        ..
    } = &node.membership;
    log::info!("node={node_name} cluster={cluster}");
    let address = match &config.cluster {
        Some(configured) => configured.clone(),
        None => address.parse()?,
    };
    if let Some(literal) = address.literal() {
        towards.send_replace(Some(literal));
    }
    let route = Route::new(address, &config, &process_env);
    let thrift = config.keepalive.unwrap_or_default();
    let labels = config.labels;
    services.push(service(labels::watch::watch(
        labels.clone(),
        config.command_labels,
        inputs.clone(),
    )));
    let start = link::Start {
        node,
        machine,
        route,
        labels,
        inputs,
        monotonic,
        towards,
        thrift,
        resume: config.resume.unwrap_or(resume::DEFAULT),
        program: before.program,
        lock: before.lock,
        services,
        keepers,
    };
    Runner::new(start).run(queue).await;
    Ok(())
}

fn greet(machine: &Machine) {
    log::info!("tether-agent {}", crate::VERSION);
    if let Some(login) = &machine.only_login {
        log::info!("runs as {login}, not root: only the login {login} is offered");
    }
}

/// A task of the agent.
fn service(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    crate::spawn(task).abort_handle()
}

/// Without its socket the agent is only harder to ask.
fn serve_status(dir: &DataDir, inputs: &mpsc::Sender<Input>) -> Option<AbortHandle> {
    let path = dir.socket();
    match socket::bind(&path) {
        Ok(listener) => Some(service(socket::serve(listener, inputs.clone()))),
        Err(error) => {
            log::warn!("{}: {error}; status is not available", path.display());
            None
        }
    }
}

/// What the system asks for.
fn listen(inputs: &mpsc::Sender<Input>) -> anyhow::Result<()> {
    let signals = [
        ("SIGTERM", SignalKind::terminate()),
        ("SIGINT", SignalKind::interrupt()),
        ("SIGHUP", SignalKind::hangup()),
    ];
    for (name, kind) in signals {
        let signal = signal(kind).context("signals cannot be received")?;
        crate::spawn(tell(name, kind, signal, inputs.clone()));
    }
    handover::hold_hang_ups(false).context("signals cannot be received")
}

async fn tell(name: &str, kind: SignalKind, mut signal: Signal, inputs: mpsc::Sender<Input>) {
    while signal.recv().await.is_some() {
        log::info!("{name} received");
        let input = if kind == SignalKind::hangup() {
            Input::Restart(None)
        } else {
            Input::Stop
        };
        // Nobody listens any more only when the agent ends already.
        let _ = inputs.send(input).await;
    }
}
