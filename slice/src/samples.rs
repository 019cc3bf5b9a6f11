//! The durations that a bench has kept.

/// The samples of one bench, in the order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    name: String,
    batch: u32,
    took_ns: Vec<u64>,
    most: usize,
    slices: u32,
    left_out: u32,
}

impl Samples {
    /// Room for `most` samples. It is written to, so that no page of it is missing when the clock runs.
    pub(crate) fn with_room(name: &str, batch: u32, most: u32) -> Self {
        let most = most as usize;
        let mut took_ns = vec![u64::MAX; most];
        took_ns.clear();
        Self { name: name.to_owned(), batch, took_ns, most, slices: 0, left_out: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.took_ns.len() == self.most
    }

    /// Keeps a sample; there is room for it.
    pub(crate) fn keep(&mut self, took_ns: u64) {
        debug_assert!(!self.is_full(), "a slice asks for no call that it has no room for");
        self.took_ns.push(took_ns);
    }

    pub(crate) fn leave_out(&mut self) {
        self.left_out += 1;
    }

    pub(crate) fn count_slice(&mut self) {
        self.slices += 1;
    }

    /// What was kept and counted is forgotten.
    pub(crate) fn clear(&mut self) {
        self.took_ns.clear();
        self.left_out = 0;
        self.slices = 0;
    }

    /// The bench.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The time of each sample in nanoseconds; where a sample is a batch, of the whole batch.
    pub fn took_ns(&self) -> &[u64] {
        &self.took_ns
    }

    /// Calls of one sample.
    pub fn batch(&self) -> u32 {
        self.batch
    }

    /// Slices that kept samples; 0 without slices.
    pub fn slices(&self) -> u32 {
        self.slices
    }

    /// Samples that were taken and left out by their position, those of pilots among them.
    pub fn left_out(&self) -> u32 {
        self.left_out
    }

    /// Whether the room for samples ended the bench.
    pub fn filled_up(&self) -> bool {
        self.is_full() && self.slices > 0
    }
}
