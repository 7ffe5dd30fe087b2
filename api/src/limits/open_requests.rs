//! How many requests of one key are open in this process.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Counts the open requests of one key.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenRequests(Arc<AtomicU32>);

/// An open request: counts until it is dropped, which is when its client has the response or is gone.
#[derive(Debug)]
pub(crate) struct OpenRequest(OpenRequests);

impl OpenRequests {
    /// Opens a request; `None` if `max` requests are open already. 0: no limit.
    pub fn open(&self, max: u32) -> Option<OpenRequest> {
        let others = self.0.fetch_add(1, Ordering::Relaxed);
        let opened = OpenRequest(self.clone());
        (max == 0 || others < max).then_some(opened)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::OpenRequests;

    #[test]
    fn a_request_that_ends_makes_room_and_a_refused_one_takes_none() {
        let requests = OpenRequests::default();
        let (first, second) = (requests.open(2), requests.open(2));
        assert!(first.is_some() && second.is_some());
        for _ in 0..3 {
            assert!(requests.open(2).is_none());
        }
        drop(first);
        assert!(requests.open(2).is_some());
        let many: Vec<_> = (0..10).map(|_| requests.open(0)).collect();
        assert!(many.iter().all(Option::is_some), "0: no limit");
    }
}
