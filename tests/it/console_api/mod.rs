//! The page's files and its JSON, asked for as a browser and as a program ask.

mod page;
