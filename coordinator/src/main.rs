//! `darwin-coordinator`: reads its flags, runs until it is told to stop.

use std::io::IsTerminal;

use clap::Parser;
use darwin_coordinator::{CoordinatorConfig, Server};
use darwin_shared::text::may_colour;
use tracing_subscriber::EnvFilter;

/// The gRPC side needs little: the loop has a thread of its own, and trading boxes' neighbours want their cores.
const WORKERS: usize = 1;

fn main() -> anyhow::Result<()> {
    let config = CoordinatorConfig::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let variable = |name| std::env::var_os(name);
    let terminal = std::io::stderr().is_terminal();
    let colours = may_colour(terminal, variable("NO_COLOR").as_deref(), variable("TERM").as_deref());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async {
        let server = Server::start(config).await?;
        server.run_until(told_to_stop()).await?;
        Ok(())
    })
}

/// Done at the first SIGTERM or Ctrl-C.
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without signal handlers the default action ends the process, which loses nothing.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
