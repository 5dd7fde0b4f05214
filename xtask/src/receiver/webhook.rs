//! A receiver of alerts by HTTP: Python's own server, which can be down and come up.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::child;
use crate::demo::Scene;
use crate::stage::{Player, free_address};

/// Patience with its start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A place for a receiver, whether or not one is there.
#[derive(Debug)]
pub(super) struct Webhook {
    address: SocketAddr,
    player: Option<Player>,
    /// What it said before it was taken down.
    before: Vec<Value>,
}

impl Webhook {
    /// A place where nobody is yet.
    pub(super) fn reserve() -> Result<Self> {
        Ok(Self { address: free_address()?, player: None, before: Vec::new() })
    }

    /// The sink that posts there, as in `export.sinks`.
    pub(super) fn sink(&self, name: &str) -> Value {
        json!({ "type": "webhook", "name": name, "url": format!("http://{}/alerts", self.address) })
    }

    /// Starts the receiver.
    pub(super) fn up(&mut self, scene: &Scene<'_>) -> Result<()> {
        let mut python = child::command("/usr/bin/python3");
        python
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(scene.source("tests/e2e/actors/webhook.py"))
            .args(["--listen", &self.address.to_string()]);
        let mut player = Player::start("webhook", &mut python, &scene.folder("webhook")?)?;
        player.wait_for("listening", START_TIMEOUT, scene.interrupt(), |line| {
            line["act"] == "listening"
        })?;
        self.player = Some(player);
        Ok(())
    }

    /// Ends the receiver; nobody listens then.
    pub(super) fn down(&mut self) {
        if let Some(mut player) = self.player.take() {
            self.before.extend(player.said().iter().cloned());
        }
    }

    /// Every post that was taken so far: its headers and the alert.
    pub(super) fn received(&mut self) -> Vec<Value> {
        let mut said = self.before.clone();
        if let Some(player) = &mut self.player {
            said.extend(player.said().iter().cloned());
        }
        said.retain(|line| line["act"] == "received");
        said
    }
}
