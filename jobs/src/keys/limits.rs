/// Limits of a key. A field that is left out has the service's default; 0 is no limit, except for `priority_max`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KeyLimits {
    /// Sustained requests a second; each API process counts for itself.
    pub requests_per_second: Option<f64>,
    /// Requests that are allowed at once after a pause.
    pub burst: Option<i32>,
    /// Jobs of the key's owner that have not ended. A submit with this key is refused above the limit.
    pub queued_jobs_max: Option<i64>,
    /// Bytes of the owner's stored images. An upload with this key is refused above the limit.
    pub stored_bytes_max: Option<i64>,
    /// Highest priority of a job that is submitted with this key, from 0 to 100.
    pub priority_max: Option<i16>,
}

impl KeyLimits {
    /// The first field that is out of bounds, and its bounds.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let negative = |limit: Option<i64>| limit.is_some_and(|limit| limit < 0);
        if self
            .requests_per_second
            .is_some_and(|rate| !(0.0..=1e6).contains(&rate))
        {
            Some(("requests_per_second", "must lie in 0..=1000000"))
        } else if self
            .burst
            .is_some_and(|burst| !(1..=1_000_000_000).contains(&burst))
        {
            Some(("burst", "must lie in 1..=1000000000"))
        } else if negative(self.queued_jobs_max) {
            Some(("queued_jobs_max", "must not be negative"))
        } else if negative(self.stored_bytes_max) {
            Some(("stored_bytes_max", "must not be negative"))
        } else if self
            .priority_max
            .is_some_and(|priority| !(0..=100).contains(&priority))
        {
            Some(("priority_max", "must lie in 0..=100"))
        } else {
            None
        }
    }
}
