//! What a person's browser shows: the page's files.
//!
//! It knows neither HTTP nor who is asking: `http` routes, admits, asks here and answers.

pub mod page;
