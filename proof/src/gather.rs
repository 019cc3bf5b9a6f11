//! Trials on all threads of the current pool, in pieces whose results are added in order.

use rayon::prelude::*;

/// Hears every trial from 0 and adds the results up. What comes out does not depend on the number of threads.
pub fn gather<T: Default + Send, E: Send>(
    trials: u32,
    piece: u32,
    add: impl Fn(&mut T, T),
    hear: impl Fn(u32, &mut T) -> Result<(), E> + Sync,
) -> Result<T, E> {
    let pieces: Vec<T> = (0..trials.div_ceil(piece))
        .into_par_iter()
        .map(|number| {
            let mut heard = T::default();
            for trial in (number * piece..trials).take(piece as usize) {
                hear(trial, &mut heard)?;
            }
            Ok(heard)
        })
        .collect::<Result<_, E>>()?;
    let mut sum = T::default();
    for piece in pieces {
        add(&mut sum, piece);
    }
    Ok(sum)
}
