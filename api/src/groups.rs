//! A batch on its way in: read line by line or file by file, checked, and queued some hundred jobs at a time.

mod entry;
mod files;
mod group_body;
mod intake;
mod lines;
mod source;

pub(crate) use self::{
    group_body::{BatchBody, etag},
    intake::{Intake, Taken},
    source::Source,
};
