//! A submit on its way in: the request in its three forms, the image from its four sources, and the checks of both.

pub(crate) mod forms;
pub(crate) mod image_input;
mod image_url;
pub(crate) mod job_json;
pub(crate) mod job_request;
pub(crate) mod sniff;
pub(crate) mod spool;
pub(crate) mod stored_images;
