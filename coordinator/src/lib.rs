//! The coordinator: schedules jobs to agents and keeps the ledger.
