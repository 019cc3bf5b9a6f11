//! What a bench does beside its slices.

/// How many calls a bench makes where the agent does not say, and how many samples it has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub(crate) warm_up_calls: u32,
    pub(crate) plain_samples: u32,
    pub(crate) batch: u32,
    pub(crate) max_samples: u32,
}

/// Room for 30 slices of 5 ms with calls of 600 ns: 2 MiB.
const MAX_SAMPLES: u32 = 1 << 18;

impl Default for Plan {
    /// 100 calls to warm up, 1,000 samples of one call each without slices, room for 262,144 in slices.
    fn default() -> Self {
        Self { warm_up_calls: 100, plain_samples: 1_000, batch: 1, max_samples: MAX_SAMPLES }
    }
}

impl Plan {
    /// Calls before the bench is ready, which are not timed.
    #[must_use]
    pub fn warm_up_calls(self, calls: u32) -> Self {
        Self { warm_up_calls: calls, ..self }
    }

    /// Samples to take where nobody asks for slices; at least 1, at most the room for samples.
    #[must_use]
    pub fn plain_samples(self, samples: u32) -> Self {
        Self { plain_samples: samples.max(1), ..self }
    }

    /// Calls of one sample, timed together; at least 1. More than one only where a call is too short to be
    /// timed (below about 1 us): the sample is then the mean of the batch, and its p99 is no call's.
    ///
    /// Declared rather than measured, so that both sides of a comparison do the same.
    #[must_use]
    pub fn batch(self, calls: u32) -> Self {
        Self { batch: calls.max(1), ..self }
    }

    /// Room for samples, taken and touched before the bench is ready; at least 1. A bench that fills it is
    /// used up: it ends its slice early, and its result says so.
    #[must_use]
    pub fn max_samples(self, samples: u32) -> Self {
        Self { max_samples: samples.max(1), ..self }
    }
}
