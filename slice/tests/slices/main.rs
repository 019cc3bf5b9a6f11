//! Real benches as real processes over real pipes, conducted as the agent conducts them.

#[cfg(test)]
mod c;
#[cfg(test)]
mod conductor;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod pytest;
#[cfg(test)]
mod rust;
