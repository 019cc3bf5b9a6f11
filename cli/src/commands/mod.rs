//! One module for each command.

pub(crate) mod agent;
pub(crate) mod calibrate;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod gate;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod job;
pub(crate) mod many;
pub(crate) mod measure;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod verdict;
