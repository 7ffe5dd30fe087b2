//! A batch on its way in: read line by line or file by file, checked, and queued some hundred jobs at a time.

mod batch_body;
mod entry;
mod files;
mod intake;
mod lines;
mod source;

pub(crate) use self::{
    batch_body::{BatchBody, etag},
    intake::{Intake, Taken},
    source::Source,
};
