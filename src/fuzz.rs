//! The one door of the fuzz targets in `fuzz/`: what they call that is not public. Stands only in
//! builds with `--cfg fuzzing`.

pub use crate::cold::callback::public::is_public;
pub use crate::cold::cursor::{Place, event_length, named as event_named};
pub use crate::cold::events::Reader;
pub use crate::cold::store::lines::{from_text as lines_from_text, to_text as lines_to_text};
pub use crate::cold::store::sealed::fields::Codec;
pub use crate::cold::timing::Timing;
pub use crate::hot::earlier::{named as earlier_job, with as with_earlier};
pub use crate::hot::headers::towards_the_provider;
pub use crate::hot::intent::{Intent, is_for_the_gateway};
pub use crate::hot::scope::is_name;
pub use crate::journal::messages::{answered, asked};
pub use crate::upstream::dialect::{is_content, parsed};
pub use crate::upstream::passing::keep_what_passes;
