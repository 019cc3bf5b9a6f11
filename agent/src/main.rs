//! The agent's daemon.

fn main() {
    darwin_agent::exec::launcher_main_if_asked();
}
