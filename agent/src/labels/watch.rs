//! Keeps the labels from commands fresh, one command at a time, each at its own period.

use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until};

use super::{Labels, command};
use crate::config::CommandLabel;
use crate::link::input::Input;

/// One label's command, and when it is due.
struct Job {
    label: CommandLabel,
    due: Instant,
    failing: bool,
}

/// Runs for ever; sends all labels whenever one has changed.
pub(crate) async fn watch(mut labels: Labels, commands: Vec<CommandLabel>, inputs: Sender<Input>) {
    let now = Instant::now();
    let mut jobs: Vec<Job> = commands
        .into_iter()
        .map(|label| Job {
            label,
            due: now,
            failing: false,
        })
        .collect();
    while let Some(job) = jobs.iter_mut().min_by_key(|job| job.due) {
        sleep_until(job.due).await;
        let changed = job.run(&mut labels, command::TIMEOUT).await;
        job.due = Instant::now() + job.label.period;
        if changed && inputs.send(Input::Labels(labels.clone())).await.is_err() {
            return;
        }
    }
}

impl Job {
    /// Runs the command. One that fails leaves the last value in place: a label that comes and
    /// goes would move the node in and out of roles.
    async fn run(&mut self, labels: &mut Labels, limit: Duration) -> bool {
        let name = &self.label.name;
        match command::run(&self.label.command, limit).await {
            Ok(value) => {
                self.failing = false;
                labels.insert(name.clone(), value.clone()).as_ref() != Some(&value)
            }
            Err(error) => {
                if !self.failing {
                    log::warn!("the command of the label {name} {error}");
                }
                self.failing = true;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(script: &str) -> Job {
        let command = ["sh", "-c", script].map(str::to_owned).into();
        let label = CommandLabel {
            name: "l".into(),
            command,
            period: Duration::from_secs(5),
        };
        Job {
            label,
            due: Instant::now(),
            failing: false,
        }
    }

    #[tokio::test]
    async fn only_a_new_value_is_a_change() {
        let mut labels = Labels::new();
        assert!(job("echo 1").run(&mut labels, command::TIMEOUT).await);
        assert!(!job("echo 1").run(&mut labels, command::TIMEOUT).await);
        assert!(job("echo 2").run(&mut labels, command::TIMEOUT).await);
    }

    #[tokio::test]
    async fn a_failure_keeps_the_last_value() {
        let mut labels: Labels = [("l".to_owned(), "1".to_owned())].into();
        let mut job = job("false");
        assert!(!job.run(&mut labels, command::TIMEOUT).await);
        assert!(job.failing);
        assert_eq!(labels.get("l").map(String::as_str), Some("1"));
    }

    #[tokio::test]
    async fn changes_are_sent() {
        let (inputs, mut changes) = tokio::sync::mpsc::channel(4);
        let labels = [("env".to_owned(), "lab".to_owned())].into();
        let watching = tokio::spawn(watch(labels, vec![job("echo 1").label], inputs));
        let Some(Input::Labels(labels)) = changes.recv().await else {
            panic!("no labels")
        };
        assert_eq!(labels.len(), 2);
        watching.abort();
    }
}
